/* Predicts an image with an export, through TensorFlow's C library inside its Python package:
 *
 *   TF=$(python -c "import os, tensorflow; print(os.path.dirname(tensorflow.__file__))")
 *   cc -std=c11 -O2 -o predict predict.c -I$TF/include -L$TF -Wl,-rpath,$TF \
 *      -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2
 *   ./predict saved_models/digits/1 seven.png
 *
 * prints the label and its probability. The file is PNG, JPEG, BMP or GIF, of any size.
 */
#include <stdio.h>
#include <stdlib.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

/* Places among a signature's results, whose names are in alphabetical order. */
enum { LABEL = 0, SCORE = 2 }; /* between them are the probabilities of all classes */

static void must(int good, const char *reason) {
    if (!good) {
        fprintf(stderr, "predict: %s\n", reason);
        exit(1);
    }
}

int main(int count, char **arguments) {
    must(count == 3, "give the folder of a version and an image file");

    static char contents[1 << 26];
    FILE *file = fopen(arguments[2], "rb");
    must(file != NULL, "the image file cannot be opened");
    size_t size = fread(contents, 1, sizeof contents, file);
    fclose(file);

    TF_Status *status = TF_NewStatus();
    TF_Graph *graph = TF_NewGraph();
    TF_SessionOptions *options = TF_NewSessionOptions();
    const char *tags[] = {"serve"};
    TF_Session *session = TF_LoadSessionFromSavedModel(
        options, NULL, arguments[1], tags, 1, graph, NULL, status);
    must(TF_GetCode(status) == TF_OK, TF_Message(status));

    /* TensorFlow names the placeholder SIGNATURE_INPUT; what it feeds is the signature's call. */
    TF_Output input = {TF_GraphOperationByName(graph, "image_bytes_image_bytes"), 0};
    TF_Input call;
    must(input.oper && TF_OperationOutputConsumers(input, &call, 1) == 1,
         "the SavedModel has no signature `image_bytes`");
    TF_Output outputs[] = {{call.oper, LABEL}, {call.oper, SCORE}};

    int64_t one = 1;
    TF_Tensor *given = TF_AllocateTensor(TF_STRING, &one, 1, sizeof(TF_TString)), *found[2];
    TF_StringInit(TF_TensorData(given));
    TF_StringCopy(TF_TensorData(given), contents, size);
    TF_SessionRun(session, NULL, &input, &given, 1, outputs, found, 2, NULL, 0, NULL, status);
    must(TF_GetCode(status) == TF_OK, TF_Message(status));

    const TF_TString *label = TF_TensorData(found[0]);
    printf("%.*s %.6f\n", (int)TF_StringGetSize(label), TF_StringGetDataPointer(label),
           *(float *)TF_TensorData(found[1]));

    for (int i = 0; i < 2; i++) TF_DeleteTensor(found[i]);
    TF_DeleteTensor(given);
    TF_CloseSession(session, status);
    TF_DeleteSession(session, status);
    TF_DeleteSessionOptions(options);
    TF_DeleteGraph(graph);
    TF_DeleteStatus(status);
    return 0;
}
