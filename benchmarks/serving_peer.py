"""An export behind LitServe, as its documentation says: `serving_peer.py FOLDER PORT BATCH`."""

import sys

import litserve
import numpy as np
import tensorflow as tf


class Peer(litserve.LitAPI):
    def setup(self, device):
        self.model = tf.saved_model.load(sys.argv[1])
        self.predict_images = self.model.signatures["serving_default"]
        self.predict_images(images=tf.zeros((1, *self.shape())))

    def shape(self):
        return self.predict_images.structured_input_signature[1]["images"].shape[1:]

    def decode_request(self, request):
        return np.asarray(request["instances"], np.float32)[0]

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        x = x[None] if x.ndim == 3 else x
        outputs = self.predict_images(images=tf.constant(x))
        return outputs["probabilities"].numpy()

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"predictions": np.reshape(output, (1, -1)).tolist()}


if __name__ == "__main__":
    api = Peer(max_batch_size=int(sys.argv[3]), batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error",
               generate_client_file=False)
