// Built only with PYNN_TENSORRT_INCLUDE_DIR: every slot, number and layout of ours against the official
// headers of one version. What those headers lack must be absent from our tables for that version, and the
// other way round.
#define ENABLE_FEATURE_DISABLE_RUNTIME_ALLOCATION 1  // as the RTX 1.3 and 1.4 binaries were built
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>

#include "../abi/abi.h"
#include "../abi/callbacks.h"

// Not in every version: incomplete there, and then without members.
namespace nvinfer1::apiv {
class VRuntimeConfig;
class VRuntimeCache;
}  // namespace nvinfer1::apiv

namespace {

#if defined(TRT_MAJOR_RTX)
constexpr auto kFlavor = pynn::abi::Flavor::Rtx;
constexpr int kMajor = TRT_MAJOR_RTX, kMinor = TRT_MINOR_RTX;
#else
constexpr auto kFlavor = pynn::abi::Flavor::TensorRT;
constexpr int kMajor = NV_TENSORRT_MAJOR, kMinor = NV_TENSORRT_MINOR;
#endif

int checked = 0, wrong = 0;

void compare(const std::string& name, long ours, long theirs) {
  ++checked;
  if (ours == theirs) return;
  ++wrong;
  std::printf("FAILED %s: ours %ld, header %ld\n", name.c_str(), ours, theirs);
}

// Itanium: a pointer to a virtual member function is 1 plus the slot's offset.
template <class Function>
int slot_of(Function function) {
  std::ptrdiff_t pointer;
  std::memcpy(&pointer, &function, sizeof(pointer));
  return static_cast<int>((pointer - 1) / static_cast<std::ptrdiff_t>(sizeof(void*)));
}

namespace their {
using namespace nvinfer1::apiv;
using Builder = VBuilder;
using Network = VNetworkDefinition;
using Tensor = VTensor;
using Layer = VLayer;
using BuilderConfig = VBuilderConfig;
using OptimizationProfile = VOptimizationProfile;
using HostMemory = VHostMemory;
using TimingCache = VTimingCache;
using Runtime = VRuntime;
using Engine = VCudaEngine;
using ExecutionContext = VExecutionContext;
using EngineInspector = VEngineInspector;
using RuntimeConfig = VRuntimeConfig;
using RuntimeCache = VRuntimeCache;
using Refitter = VRefitter;
using Parser = nvonnxparser::IParser;
using ParserError = nvonnxparser::IParserError;
using ParserRefitter = nvonnxparser::IParserRefitter;

using NetworkFlag = nvinfer1::NetworkDefinitionCreationFlag;
using BuilderFlag = nvinfer1::BuilderFlag;
using ParserFlag = nvonnxparser::OnnxParserFlag;
}  // namespace their

#define METHOD(class_, method, ...)                                     \
  template <class T>                                                    \
  auto find_##class_##_##method(int) -> decltype(slot_of(&T::method)) { \
    return slot_of(&T::method);                                         \
  }                                                                     \
  template <class T>                                                    \
  int find_##class_##_##method(long) {                                  \
    return -1;                                                          \
  }
#include "../abi/slots.inc"
#undef METHOD

#define ENUMERATOR(enum_, name, ...)                                          \
  template <class T>                                                          \
  auto find_##enum_##_##name(int) -> decltype(static_cast<int>(T::k##name)) { \
    return static_cast<int>(T::k##name);                                      \
  }                                                                           \
  template <class T>                                                          \
  int find_##enum_##_##name(long) {                                           \
    return -1;                                                                \
  }
#include "../abi/enums.inc"
#undef ENUMERATOR

// A and C have a second deserializeCudaEngine, for streams.
template <>
[[maybe_unused]] int find_Runtime_deserializeCudaEngine<their::Runtime>(long) {
  using Function = nvinfer1::ICudaEngine* (their::Runtime::*)(const void*, std::size_t);
  return slot_of(static_cast<Function>(&their::Runtime::deserializeCudaEngine));
}

// No pointer to a destructor can be had: delete an object whose slots tell their number.
int deleted_slot = -1;
template <int slot>
void tell(void*) {
  deleted_slot = slot;
}
template <class T>
int find_deleting() {
  static void* table[] = {
      reinterpret_cast<void*>(tell<0>), reinterpret_cast<void*>(tell<1>),  reinterpret_cast<void*>(tell<2>),
      reinterpret_cast<void*>(tell<3>), reinterpret_cast<void*>(tell<4>),  reinterpret_cast<void*>(tell<5>),
      reinterpret_cast<void*>(tell<6>), reinterpret_cast<void*>(tell<7>),  reinterpret_cast<void*>(tell<8>),
      reinterpret_cast<void*>(tell<9>), reinterpret_cast<void*>(tell<10>), reinterpret_cast<void*>(tell<11>),
  };
  void** object[] = {table};
  delete reinterpret_cast<T*>(object);
  return deleted_slot;
}
template <>
[[maybe_unused]] int find_Parser_destroy<their::Parser>(long) {
  return find_deleting<their::Parser>();
}
template <>
[[maybe_unused]] int find_ParserRefitter_destroy<their::ParserRefitter>(long) {
  return find_deleting<their::ParserRefitter>();
}

}  // namespace

int main() {
  pynn::abi::Abi abi(kFlavor, kMajor, kMinor, false);
  std::printf("%s, generation %c\n", abi.name().c_str(), abi.letter());

#define METHOD(class_, method, ...)                                               \
  compare(#class_ "::" #method, abi.find(pynn::abi::slot::class_##_##method.row), \
          find_##class_##_##method<their::class_>(0));
#include "../abi/slots.inc"
#undef METHOD
#define ENUMERATOR(enum_, name, ...)                                          \
  compare(#enum_ "::" #name, abi.find(pynn::abi::number::enum_##_##name.row), \
          find_##enum_##_##name<their::enum_>(0));
#include "../abi/enums.inc"
#undef ENUMERATOR

  using namespace pynn::abi;
  bool plain = abi.generation() == Generation::A || abi.generation() == Generation::C;
  compare("ILogger::log", slot_of(&nvinfer1::ILogger::log),
          plain ? slot_of(&PlainLogger::log) : slot_of(&VersionedLogger::log));
  compare("IProgressMonitor::phaseStart", slot_of(&ProgressMonitor::phaseStart),
          slot_of(&nvinfer1::IProgressMonitor::phaseStart));
  compare("IProgressMonitor::stepComplete", slot_of(&ProgressMonitor::stepComplete),
          slot_of(&nvinfer1::IProgressMonitor::stepComplete));
  compare("IProgressMonitor::phaseFinish", slot_of(&ProgressMonitor::phaseFinish),
          slot_of(&nvinfer1::IProgressMonitor::phaseFinish));
  compare("sizeof(Dims)", sizeof(Dims), sizeof(nvinfer1::Dims));
  compare("Dims::nbDims", offsetof(Dims, rank), offsetof(nvinfer1::Dims, nbDims));
  compare("Dims::d", offsetof(Dims, d), offsetof(nvinfer1::Dims, d));
  compare("sizeof(Weights)", sizeof(Weights), sizeof(nvinfer1::Weights));
  compare("Weights::values", offsetof(Weights, values), offsetof(nvinfer1::Weights, values));
  compare("Weights::count", offsetof(Weights, count), offsetof(nvinfer1::Weights, count));
  compare("sizeof(InterfaceInfo)", sizeof(InterfaceInfo), sizeof(nvinfer1::InterfaceInfo));
  compare("sizeof(IBuilder)", sizeof(Builder), sizeof(nvinfer1::IBuilder));
  compare("sizeof(ILayer)", sizeof(Layer), sizeof(nvinfer1::ILayer));
  compare("sizeof(IParser)", sizeof(Parser), sizeof(nvonnxparser::IParser));
  std::printf("%d compared\n%d passed, %d failed\n", checked, checked - wrong, wrong);
  return wrong != 0;
}
