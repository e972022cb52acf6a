#include "wire/any.h"

#include "wire/full_graph.pb-c.h"

#include <string.h>

/* Messages that stand by themselves. The nested ones of maps and lists are no types that anybody
 * packs. */
static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *type;
} known[] = {
    {"tensorflow.AssetFileDef", &bly__full__asset_file_def__descriptor},
    {"tensorflow.AttrValue", &bly__full__attr_value__descriptor},
    {"tensorflow.CollectionDef", &bly__full__collection_def__descriptor},
    {"tensorflow.FunctionDef", &bly__full__function_def__descriptor},
    {"tensorflow.FunctionDefLibrary", &bly__full__function_def_library__descriptor},
    {"tensorflow.GraphDef", &bly__full__graph_def__descriptor},
    {"tensorflow.MetaGraphDef", &bly__full__meta_graph_def__descriptor},
    {"tensorflow.NodeDef", &bly__full__node_def__descriptor},
    {"tensorflow.OpDef", &bly__full__op_def__descriptor},
    {"tensorflow.OpList", &bly__full__op_list__descriptor},
    {"tensorflow.QueueRunnerDef", &bly__full__queue_runner_def__descriptor},
    {"tensorflow.SaveSliceInfoDef", &bly__full__save_slice_info_def__descriptor},
    {"tensorflow.SavedModel", &bly__full__saved_model__descriptor},
    {"tensorflow.SavedObjectGraph", &bly__full__saved_object_graph__descriptor},
    {"tensorflow.SaverDef", &bly__full__saver_def__descriptor},
    {"tensorflow.SignatureDef", &bly__full__signature_def__descriptor},
    {"tensorflow.StructuredValue", &bly__full__structured_value__descriptor},
    {"tensorflow.TensorInfo", &bly__full__tensor_info__descriptor},
    {"tensorflow.TensorProto", &bly__full__tensor_proto__descriptor},
    {"tensorflow.TensorShapeProto", &bly__full__tensor_shape_proto__descriptor},
    {"tensorflow.VariableDef", &bly__full__variable_def__descriptor},
    {"tensorflow.VersionDef", &bly__full__version_def__descriptor},
    {"google.protobuf.Any", &bly__full__any__descriptor},
    {"google.protobuf.BoolValue", &bly__full__bool_value__descriptor},
    {"google.protobuf.BytesValue", &bly__full__bytes_value__descriptor},
    {"google.protobuf.DoubleValue", &bly__full__double_value__descriptor},
    {"google.protobuf.FloatValue", &bly__full__float_value__descriptor},
    {"google.protobuf.Int32Value", &bly__full__int32_value__descriptor},
    {"google.protobuf.Int64Value", &bly__full__int64_value__descriptor},
    {"google.protobuf.StringValue", &bly__full__string_value__descriptor},
    {"google.protobuf.UInt32Value", &bly__full__uint32_value__descriptor},
    {"google.protobuf.UInt64Value", &bly__full__uint64_value__descriptor},
};

const ProtobufCMessageDescriptor *bly_text_any_type(const char *url) {
    const char *slash = strrchr(url, '/');
    for (size_t i = 0; slash && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(slash + 1, known[i].name) == 0)
            return known[i].type;
    return NULL;
}
