"""Features of fixed size from regions of any size: RoI pooling, RoI align."""

import tensorflow as tf

from custom_layers.checks import FLOAT, INTEGER, check_finite, check_kind
from custom_layers.gradient import differentiable
from custom_layers.image_layer import ImageLayer
from custom_layers.registration import register
from custom_layers.smooth_pooling import widened
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import dimensions


@differentiable
def roi_pool(x, rois, *, output_size=(7, 7), spatial_scale=1.0, data_format="channels_last"):
    """The largest value of each bin of a grid over each region of interest (RoI).

    Forward:   x1, y1, x2, y2 = the RoI times spatial_scale, rounded (halves away from zero);
               h = max(y2 - y1 + 1, 1); bin row i of PH has the rows
               y1 + floor(i h / PH) .. y1 + ceil((i+1) h / PH) - 1 that are in the image; columns
               likewise;  y[r,i,j,c] = max of x[image of r, rows, columns, c], 0 of an empty bin
    Backward:  dx at the winner of each bin += dy; the RoIs get no gradient
    Shapes:    x (N, H, W, C), rois (N, R, 4) of (x1, y1, x2, y2) -> y (N, R, PH, PW, C);
               rois (n, 5) of (image, x1, y1, x2, y2) -> y (n, PH, PW, C);
               channels_first: x (N, C, H, W) -> y (..., C, PH, PW)
    Units:     RoIs in pixels of the picture, both ends included; spatial_scale is the size of
               x over that of the picture (1/16 for VGG-16)
    Ties:      the first in row-major order takes all of dy
    Raises:    see `RoIPooling`
    Keeps the place of each winner, not x.
    Source:    Girshick, Fast R-CNN, ICCV 2015, section 2.1, as in its code and torchvision's.
    """
    ph, pw = output_size

    def pool(x):
        n, h, w, c = dimensions(x)
        image, boxes = _flat_rois(rois, n, h, w, spatial_scale, tf.float32)
        boxes = tf.cast(tf.sign(boxes) * tf.floor(tf.abs(boxes) + 0.5), tf.int32)
        x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
        top, rows = _bins(y1, y2, ph, h)
        left, columns = _bins(x1, x2, pw, w)
        # The loop is not to be differentiated: `backward` needs no more than the winners.
        pixels = tf.stop_gradient(tf.reshape(x, (n * h * w, c)))
        empty = (rows < 1)[:, :, None] | (columns < 1)[:, None]
        widest = tf.maximum(tf.reduce_max(columns), 1)
        largest_bin = tf.maximum(tf.reduce_max(rows), 1) * widest

        def seen(k):
            """Place and value of the pixel k of each bin; the bin's first where it has none."""
            i, j = k // widest, k % widest
            row = top + tf.where(i < rows, i, 0)
            column = left + tf.where(j < columns, j, 0)
            place = (image[:, None] * h + row)[:, :, None] * w + column[:, None]
            place = tf.where(empty, 0, place)
            return place, tf.gather(pixels, place)

        def keep_larger(k, y, winner):
            place, value = seen(k)
            return k + 1, tf.maximum(y, value), tf.where(value > y, place[..., None], winner)

        place, y = seen(0)
        winner = tf.broadcast_to(place[..., None], tf.shape(y))
        _, y, winner = tf.while_loop(
            lambda k, *_: k < largest_bin, keep_larger, (1, y, winner), parallel_iterations=1
        )
        y = tf.where(empty[..., None], tf.zeros((), x.dtype), y)
        winner = tf.where(empty[..., None], -1, winner)

        def backward(dy):
            dx = scatter_rows(tf.reshape(dy, tf.shape(winner)), winner, n * h * w, c)
            return tf.reshape(dx, (n, h, w, c))

        return _arranged(y, rois), backward

    y, backward = _region_format(pool, x, data_format)
    return y, lambda dy: (backward(dy), None)


@differentiable
def roi_align(x, rois, *, output_size=(7, 7), spatial_scale=1.0, sampling_ratio=2, aligned=True,
              data_format="channels_last"):
    """The average of bilinear samples in each bin of a grid over each region of interest (RoI).

    Forward:   the RoI times spatial_scale, less 1/2, is cut into PH x PW bins, unrounded; in
               each S x S points stand evenly spaced, S = sampling_ratio; a point's value is
               the bilinear interpolation of the four pixels around it:
               y[r,i,j,c] = 1/S^2 sum over points, pixels of (1 - |dh|) (1 - |dw|) x[..., pixel, c]
               A point up to 1 pixel outside the outermost pixel centres takes the border's value,
               one further outside 0.
    Backward:  dx at the four pixels of each point += (1 - |dh|) (1 - |dw|) dy / S^2 (the exact
               adjoint); the RoIs get no gradient, as in the paper
    Shapes:    x (N, H, W, C), rois (N, R, 4) of (x1, y1, x2, y2) -> y (N, R, PH, PW, C);
               rois (n, 5) of (image, x1, y1, x2, y2) -> y (n, PH, PW, C);
               channels_first: x (N, C, H, W) -> y (..., C, PH, PW)
    Units:     RoIs in pixels of the picture, as lengths from its corner: the pixel in column w
               reaches from w to w + 1; spatial_scale is the size of x over that of the picture.
               aligned=False: without the 1/2 and at least one pixel wide, as the paper's code
    Raises:    see `RoIPooling`
    Keeps the rows and the columns that each bin reads and their weights, not x. Half precision is
    summed in float32.
    Source:    He, Gkioxari, Dollar, Girshick, Mask R-CNN, ICCV 2017, section 3, figure 3, as in
               torchvision's code.
    """
    (ph, pw), s = output_size, sampling_ratio

    def pool(x):
        (n, h, w, c), x_dtype = dimensions(x), x.dtype
        dtype = widened(x).dtype
        image, boxes = _flat_rois(rois, n, h, w, spatial_scale, dtype)
        x1, y1, x2, y2 = tf.unstack(boxes if not aligned else boxes - 0.5, axis=1)
        rows, row_weights = _taps(y1, y2, ph, s, h, aligned)
        columns, column_weights = _taps(x1, x2, pw, s, w, aligned)
        rows = image[:, None, None] * h + rows
        pixels = tf.reshape(x, (n * h * w, c))

        def tap(k):
            """The place of a pixel that each bin reads, and its weight there."""
            a, b = k // (2 * s), k % (2 * s)
            place = rows[:, :, None, a] * w + columns[:, None, :, b]
            return place, row_weights[:, :, None, a, None] * column_weights[:, None, :, b, None]

        def value(k):
            place, weight = tap(k)
            return weight * widened(tf.gather(pixels, place))

        y = _sum_in_turn(value, (2 * s) ** 2, after=rows)

        def backward(dy):
            dy = tf.reshape(tf.cast(dy, dtype), tf.shape(y))

            def gradient(k):
                place, weight = tap(k)
                return tf.math.unsorted_segment_sum(weight * dy, place, n * h * w)

            dx = _sum_in_turn(gradient, (2 * s) ** 2, after=dy)
            return tf.cast(tf.reshape(dx, (n, h, w, c)), x_dtype)

        return _arranged(tf.cast(y, x_dtype), rois), backward

    y, backward = _region_format(pool, x, data_format)
    return y, lambda dy: (backward(dy), None)


def _bins(first, last, bins, size):
    """First pixel and number of pixels, (R, bins) each, of `bins` between two pixels."""
    length = tf.maximum(last - first + 1, 1)[:, None]
    i = tf.range(bins)
    begin = tf.clip_by_value(first[:, None] + i * length // bins, 0, size)
    end = tf.clip_by_value(first[:, None] - (-(i + 1) * length // bins), 0, size)
    return begin, end - begin


def _taps(start, end, bins, samples, size, aligned):
    """The pixels that a bin reads along one axis and their weights, (R, bins, 2 * samples) each."""
    length = end - start if aligned else tf.maximum(end - start, 1)
    steps = (tf.range(bins * samples, dtype=start.dtype) + 0.5) / (bins * samples)
    point = start[:, None] + length[:, None] * steps
    outside = (point < -1) | (point > tf.cast(size, point.dtype))
    point = tf.clip_by_value(point, 0, tf.cast(size - 1, point.dtype))
    low = tf.floor(point)
    fraction = point - low
    low = tf.cast(low, tf.int32)
    pixels = tf.stack([low, tf.minimum(low + 1, size - 1)], 2)
    weights = tf.stack([1 - fraction, fraction], 2) / samples
    weights = tf.where(outside[:, :, None], tf.zeros((), weights.dtype), weights)
    return (tf.reshape(t, (-1, bins, 2 * samples)) for t in (pixels, weights))


def _sum_in_turn(term, count, after):
    """term(0) + term(1) + ..., each begun when the one before it is added, the first after `after`.

    So a graph holds one term at a time, and keeps nothing of them for the backward pass.
    """
    total = None
    for k in range(count):
        with tf.control_dependencies([after if total is None else total]):
            total = term(k) if total is None else total + term(k)
    return total


def scatter_rows(dy, place, size, channels):
    """(size, C): each of `dy` (..., C) added at row `place` of its own channel; -1: nowhere."""
    channel = tf.range(channels, dtype=tf.int64)
    index = tf.cast(place, tf.int64) * tf.cast(channels, tf.int64) + channel
    total = tf.math.unsorted_segment_sum(
        tf.reshape(widened(dy), [-1]), tf.reshape(index, [-1]), size * channels
    )
    return tf.cast(total, dy.dtype)


def _flat_rois(rois, n, h, w, spatial_scale, dtype):
    """The image (R,) and the box (R, 4) in pixels of x of each RoI, checked."""
    if rois.shape.rank == 3:
        count = dimensions(rois)[1]
        image = tf.reshape(tf.tile(tf.range(n)[:, None], (1, count)), [-1])
        boxes = tf.reshape(rois, (-1, 4))
    else:
        image, boxes = tf.cast(rois[:, 0], tf.int32), rois[:, 1:]
    boxes = tf.cast(boxes, dtype) * spatial_scale
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    width, height = tf.cast(w, dtype), tf.cast(h, dtype)
    meets = (x1 <= x2) & (x2 >= 0) & (x1 < width) & (y1 <= y2) & (y2 >= 0) & (y1 < height)
    meets &= tf.reduce_all(tf.math.is_finite(boxes), 1) & (image >= 0) & (image < n)
    if tf.executing_eagerly():
        if not tf.reduce_all(meets):
            at = int(tf.where(~meets)[0, 0])
            raise ValueError(f"{_EXPECTED} Received: {boxes[at].numpy().tolist()} (RoI {at}, times "
                             f"spatial_scale) in image {int(image[at])} of {n}, {h} x {w} pixels")
    elif not compiled_by_xla():
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(meets), [_EXPECTED])]):
            image = tf.identity(image)  # so that nothing is gathered before
    return image, boxes


_EXPECTED = (
    "Each of `rois` must be (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, meet its image, and "
    "name an image of the batch."
)


def _region_format(pool, x, data_format):
    """`pool(x)`, a function from NHWC images to (..., PH, PW, C), in either format."""
    if data_format == "channels_last":
        return pool(x)
    y, backward = pool(tf.transpose(x, (0, 2, 3, 1)))
    to_first, to_last = ((0, 3, 1, 2), (0, 2, 3, 1)) if y.shape.rank == 4 else (
        (0, 1, 4, 2, 3), (0, 1, 3, 4, 2))

    def transposed_backward(dy):
        return tf.transpose(backward(tf.transpose(dy, to_last)), (0, 3, 1, 2))

    return tf.transpose(y, to_first), transposed_backward


def _arranged(y, rois):
    """(N * R, PH, PW, C) as (N, R, PH, PW, C) where the RoIs came by image."""
    if rois.shape.rank == 2:
        return y
    return tf.reshape(y, (*dimensions(rois)[:2], *dimensions(y)[1:]))


class _RegionLayer(ImageLayer):
    """What RoIPooling and RoIAlign share: their arguments, checks and shapes."""

    def __init__(self, output_size=(7, 7), spatial_scale=1.0, **kwargs):
        # Keras must not cast the RoIs to half precision: whole pixels would be lost.
        super().__init__(autocast=False, **kwargs)
        sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(sizes) != 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(
                "`output_size` must be an integer > 0 or two of them, (rows, columns). "
                f"Received: output_size={output_size}"
            )
        if not spatial_scale > 0:
            raise ValueError(
                f"`spatial_scale` must be > 0. Received: spatial_scale={spatial_scale}"
            )
        check_finite(spatial_scale=spatial_scale)
        self.output_size, self.spatial_scale = sizes, spatial_scale

    @property
    def settings(self):
        """The arguments of the layer's op."""
        return dict(output_size=self.output_size, spatial_scale=self.spatial_scale,
                    data_format=self.data_format)

    def call(self, inputs, rois):
        self.compute_output_shape(inputs.shape, rois.shape)  # its checks
        check_kind(self, "rois", rois, (FLOAT, INTEGER))
        return self.op(tf.cast(inputs, self.compute_dtype), rois, **self.settings)

    def compute_output_shape(self, inputs_shape, rois_shape):
        n, _, _, c = self.image_shape(inputs_shape)
        rois = tuple(rois_shape)
        if (len(rois), *rois[-1:]) not in ((3, 4), (2, 5)) or (
            len(rois) == 3 and None not in (n, rois[0]) and n != rois[0]
        ):
            raise ValueError(
                f"`rois` of layer {self.name} must have the shape (batch, rois, 4), x1, y1, x2, y2 "
                "each, or (rois, 5), the number of the image first. "
                f"Received: rois.shape={rois}, inputs.shape={tuple(inputs_shape)}"
            )
        if self.data_format == "channels_last":
            return (*rois[:-1], *self.output_size, c)
        return (*rois[:-1], c, *self.output_size)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@register
class RoIPooling(_RegionLayer):
    """The op `roi_pool` as a layer: called with (inputs, rois).

    RoIs partly outside the image are cut to it, their empty bins 0. Wholly outside, with x1 > x2
    or y1 > y2, not finite, or naming no image of the batch, they are an error: ValueError in eager
    mode, InvalidArgumentError in a graph. XLA checks nothing: RoIs outside give zeros.

    Args:
        output_size: (PH, PW) of the grid, or one integer. 7 x 7 as for VGG-16.
        spatial_scale: size of the inputs over that of the picture whose pixels the RoIs count.
        data_format: as Keras's.
    """

    op = staticmethod(roi_pool)


@register
class RoIAlign(_RegionLayer):
    """The op `roi_align` as a layer: called with (inputs, rois). Errors are `RoIPooling`'s.

    Args:
        sampling_ratio: points a bin along each axis.
        aligned: whether lengths are measured from the corner of the first pixel (True, the
            default) or from its centre, as in the paper's code.
        output_size, spatial_scale, data_format: as `RoIPooling`.
    """

    op = staticmethod(roi_align)

    def __init__(self, output_size=(7, 7), spatial_scale=1.0, sampling_ratio=2, aligned=True,
                 **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        if not isinstance(sampling_ratio, int) or sampling_ratio < 1:
            raise ValueError(
                "`sampling_ratio` must be an integer > 0. "
                f"Received: sampling_ratio={sampling_ratio}"
            )
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    @property
    def settings(self):
        return {**super().settings, "sampling_ratio": self.sampling_ratio, "aligned": self.aligned}
