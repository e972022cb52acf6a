/* The table of TensorFlow calls. Nothing in belay links TensorFlow: all of it goes through one of
 * these tables, which loader.c fills from the real library and tests fill with a scripted one. */
#ifndef BLY_RUNTIME_RUNTIME_H
#define BLY_RUNTIME_RUNTIME_H

#include <belay/error.h>

#include <tensorflow/c/c_api.h>

/* Every call that belay makes, without its TF_ prefix. The types come from TensorFlow's own header.
 */
#define BLY_RUNTIME_CALLS(X)                                                                       \
    X(Version)                                                                                     \
    X(NewStatus)                                                                                   \
    X(DeleteStatus)                                                                                \
    X(SetStatus)                                                                                   \
    X(GetCode)                                                                                     \
    X(Message)                                                                                     \
    X(NewBuffer)                                                                                   \
    X(NewBufferFromString)                                                                         \
    X(DeleteBuffer)                                                                                \
    X(NewTensor)                                                                                   \
    X(AllocateTensor)                                                                              \
    X(DeleteTensor)                                                                                \
    X(TensorType)                                                                                  \
    X(NumDims)                                                                                     \
    X(Dim)                                                                                         \
    X(TensorByteSize)                                                                              \
    X(TensorData)                                                                                  \
    X(TensorElementCount)                                                                          \
    X(DataTypeSize)                                                                                \
    X(NewGraph)                                                                                    \
    X(DeleteGraph)                                                                                 \
    X(NewImportGraphDefOptions)                                                                    \
    X(DeleteImportGraphDefOptions)                                                                 \
    X(GraphImportGraphDef)                                                                         \
    X(GraphToGraphDef)                                                                             \
    X(GetAllOpList)                                                                                \
    X(GraphOperationByName)                                                                        \
    X(GraphNextOperation)                                                                          \
    X(GraphGetTensorNumDims)                                                                       \
    X(GraphGetTensorShape)                                                                         \
    X(NewOperation)                                                                                \
    X(FinishOperation)                                                                             \
    X(SetDevice)                                                                                   \
    X(AddInput)                                                                                    \
    X(AddInputList)                                                                                \
    X(AddControlInput)                                                                             \
    X(SetAttrString)                                                                               \
    X(SetAttrInt)                                                                                  \
    X(SetAttrBool)                                                                                 \
    X(SetAttrType)                                                                                 \
    X(SetAttrTypeList)                                                                             \
    X(SetAttrShape)                                                                                \
    X(SetAttrTensor)                                                                               \
    X(OperationName)                                                                               \
    X(OperationOpType)                                                                             \
    X(OperationDevice)                                                                             \
    X(OperationNumOutputs)                                                                         \
    X(OperationNumInputs)                                                                          \
    X(OperationOutputType)                                                                         \
    X(OperationInput)                                                                              \
    X(OperationInputType)                                                                          \
    X(OperationNumControlInputs)                                                                   \
    X(OperationGetControlInputs)                                                                   \
    X(OperationOutputNumConsumers)                                                                 \
    X(OperationOutputConsumers)                                                                    \
    X(OperationGetAttrMetadata)                                                                    \
    X(OperationGetAttrString)                                                                      \
    X(OperationGetAttrInt)                                                                         \
    X(OperationGetAttrBool)                                                                        \
    X(OperationGetAttrType)                                                                        \
    X(OperationGetAttrShape)                                                                       \
    X(OperationGetAttrTensor)                                                                      \
    X(NewSessionOptions)                                                                           \
    X(DeleteSessionOptions)                                                                        \
    X(SetTarget)                                                                                   \
    X(SetConfig)                                                                                   \
    X(NewSession)                                                                                  \
    X(CloseSession)                                                                                \
    X(DeleteSession)                                                                               \
    X(SessionRun)                                                                                  \
    X(SessionPRunSetup)                                                                            \
    X(SessionPRun)                                                                                 \
    X(DeletePRunHandle)                                                                            \
    X(Reset)                                                                                       \
    X(SessionListDevices)                                                                          \
    X(DeviceListCount)                                                                             \
    X(DeviceListName)                                                                              \
    X(DeviceListType)                                                                              \
    X(DeviceListMemoryBytes)                                                                       \
    X(DeviceListIncarnation)                                                                       \
    X(DeleteDeviceList)                                                                            \
    X(NewServer)                                                                                   \
    X(ServerStart)                                                                                 \
    X(ServerTarget)                                                                                \
    X(DeleteServer)                                                                                \
    X(StringInit)                                                                                  \
    X(StringCopy)                                                                                  \
    X(StringGetDataPointer)                                                                        \
    X(StringGetSize)                                                                               \
    X(StringDealloc)

typedef struct bly_runtime {
#define BLY_RUNTIME_FIELD(name) __typeof__(TF_##name) *name;
    BLY_RUNTIME_CALLS(BLY_RUNTIME_FIELD)
#undef BLY_RUNTIME_FIELD
} bly_runtime;

/* The table in use; loads TensorFlow the first time. NULL with err filled where there is none. */
const bly_runtime *bly_runtime_get(belay_error *err);

/* For tests: use this table from now on; NULL goes back to the real one. */
void bly_runtime_install(const bly_runtime *table);

/* A status's code. One outside the table becomes UNKNOWN, with a warning that has its number
 * (ST-03).
 */
belay_code bly_runtime_code(const bly_runtime *rt, const TF_Status *status);

/* A status that several calls share: made on the first use of a call, checked after it. Turns a
 * TF_Status into a belay_error with TensorFlow's code and text, and deletes the status. */
belay_code bly_runtime_finish(const bly_runtime *rt, TF_Status *status, belay_error *err);

#endif
