// A TensorRT that does nothing, in any version and with any fault. It lays out its vtables from the slot
// table (which header_proof and the real libraries check) for the version in PYNN_FAKE_VERSION; every other
// slot ends the process, so that a call to a slot that the version lacks cannot pass unnoticed.
// PYNN_FAKE_FAULTS names the faults.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../abi/abi.h"
#include "../abi/callbacks.h"

namespace {

using pynn::abi::Cell;
using pynn::abi::Dims;
using pynn::abi::Row;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}
int version() { return std::atoi(environment("PYNN_FAKE_VERSION").c_str()); }
bool fault(const char* name) { return environment("PYNN_FAKE_FAULTS").find(name) != std::string::npos; }
void* bogus() { return reinterpret_cast<void*>(0x228); }

int generation() {
  int number = version();
  if (number < 100000) return number < 10500 ? 0 : 1;
  return number < 110000 ? 2 : 3;
}
int minor() { return version() % 10000 / 100; }

struct Object;

// What the shim holds.
struct Public {
  void** vtable;
  Object* impl;
};

// What it calls; as in TensorRT the two are one allocation.
struct Object {
  void** table;
  Public face;
  void* owner = nullptr;
  void* logger = nullptr;
  void* monitor = nullptr;
  std::map<int32_t, int64_t> numbers;
  std::map<std::string, void*> addresses;
  std::map<std::string, Dims> shapes;
  std::string text;
  int32_t errors = 0;
};

// Never destroyed: what the shim gives up after a failed self-test stays reachable for leak checkers.
std::set<Object*>& live() {
  static auto* const objects = new std::set<Object*>;
  return *objects;
}

void trap(Object*) {
  std::fputs("fake TensorRT: a slot was called that this version does not have\n", stderr);
  std::abort();
}
void destroy(Object* object) {
  live().erase(object);
  delete[] object->face.vtable;
  delete[] object->table;
  delete object;
}
void destroy_face(Public* face) { destroy(face->impl); }

void log(void* logger, int severity, const char* text) {
  if (generation() % 2 == 0)
    static_cast<pynn::abi::PlainLogger*>(logger)->log(severity, text);
  else
    static_cast<pynn::abi::VersionedLogger*>(logger)->log(severity, text);
}

template <class Function>
void* address(Function* function) {
  return reinterpret_cast<void*>(function);
}

Public* make(const char* kind, void* owner, void* logger);
Public* self(Object* object) { return fault("wrong_engine") ? nullptr : &object->face; }
const char* name_of(int32_t index) { return index == 0 ? "x" : "y"; }
Dims matrix() { return {2, {2, 3}}; }

Public* build(Object* builder, Public*, Public* config_face) {
  Object* config = config_face->impl;
  if (fault("build_thread")) {
    std::thread([=] {
      log(builder->logger, 1, "said on a thread of TensorRT's own");
      log(builder->logger, 2, "a warning that errors hide");
    }).join();
    return nullptr;
  }
  if (fault("build_many_warnings")) {
    for (int i = 0; i < 1000; ++i) log(builder->logger, 2, "a warning");
    log(builder->logger, 1, "the error");
    return nullptr;
  }
  if (fault("build_memory")) {
    log(builder->logger, 1, "Requested amount of GPU memory could not be allocated: out of memory");
    log(builder->logger, 1, "Requested amount of GPU memory could not be allocated: out of memory");
    return nullptr;
  }
  if (fault("build_silent")) return nullptr;
  if (fault("build_warning")) return log(builder->logger, 2, "only a warning"), nullptr;
  if (config->monitor != nullptr) {
    auto* monitor = static_cast<pynn::abi::ProgressMonitor*>(config->monitor);
    std::string longest(300, 'a');
    longest.replace(158, 3, "\xe2\x82\xac");
    monitor->phaseStart(longest.c_str(), nullptr, 5000);
    for (int i = 0; i < 5000; ++i)
      if (!monitor->stepComplete(longest.c_str(), i)) return nullptr;
    monitor->phaseFinish(longest.c_str());
  }
  Public* memory = make("HostMemory", builder, builder->logger);
  memory->impl->text = "plan";
  return memory;
}

Public* deserialize(Object* runtime, const void* plan, uint64_t size) {
  std::string text(static_cast<const char*>(plan), size);
  if (text == "plan") return make("Engine", runtime, runtime->logger);
  log(runtime->logger, 1, text.c_str());
  if (fault("noise"))
    log(runtime->logger, 1,
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: no)");
  return nullptr;
}

struct Launch {
  const float* x;
  float* y;
};

bool enqueue(Object* context, void*) {
  if (fault("enqueue_memory")) return log(context->logger, 1, "Cuda Runtime (out of memory)"), false;
  if (fault("enqueue")) return log(context->logger, 1, "the kernel did not start"), false;
  static auto* launch = reinterpret_cast<void (*)(void (*)(void*), void*)>(
      dlsym(dlopen("libcuda.so.1", RTLD_NOW), "fake_cuda_launch"));
  static std::vector<std::unique_ptr<Launch>> launches;
  launches.emplace_back(new Launch{static_cast<const float*>(context->addresses["x"]),
                                   static_cast<float*>(context->addresses["y"])});
  launch(
      [](void* argument) {
        auto* work = static_cast<Launch*>(argument);
        for (int i = 0; i < 6; ++i) work->y[i] = 2 * work->x[i];
      },
      launches.back().get());
  return true;
}

int32_t infer_shapes(Object* context, int32_t, const char** names) {
  if (fault("infer")) return -1;
  if (context->shapes.count("x")) return 0;
  names[0] = "x";
  return 1;
}

Dims context_shape(Object* context, const char* name) {
  if (fault("unknown_shape")) return {-1, {}};
  auto found = context->shapes.find(name);
  if (found != context->shapes.end()) return found->second;
  return context->shapes.count("x") ? matrix() : Dims{2, {-1, 3}};
}

// One weight, "w": two floats. Its value ends up in the refitter's numbers, so that a test can see it.
int32_t list_weights(Object* refitter, int32_t size, const char** names) {
  if (fault("bad_names")) return size == 0 ? -3 : 5;
  if (size > 0) names[0] = fault("null_name") ? nullptr : "w";
  return refitter->numbers[1] == 0 || fault("always_missing") ? 1 : 0;
}

bool set_weights(Object* refitter, const char* name, pynn::abi::Weights weights) {
  bool fits = std::strcmp(name, "w") == 0 && weights.type == 0 && weights.count == 2;
  if (!fits) return log(refitter->logger, 1, "no such weights"), false;
  refitter->numbers[1] = static_cast<int64_t>(static_cast<const float*>(weights.values)[1]);
  return true;
}

bool parser_set(Object* parser, const void* model, uint64_t size, const char*) {
  if (fault("refit_bogus_error")) parser->errors = 1, parser->owner = bogus();
  parser->text.assign(static_cast<const char*>(model), size);
  return parser->text == "onnx";
}

void refit_handlers(std::map<std::string, void*>* all) {
#define ON(name, ...) (*all)[name] = address(+(__VA_ARGS__))
  ON("Refitter::getPImpl", self);
  ON("Refitter::getLogger", [](Object* o) { return fault("wrong_refitter") ? nullptr : o->logger; });
  ON("Refitter::getAllWeights", [](Object* o, int32_t size, const char** names) {
    int64_t set = std::exchange(o->numbers[1], 0);
    int32_t count = list_weights(o, size, names);
    o->numbers[1] = set;
    return count;
  });
  ON("Refitter::getMissingWeights", list_weights);
  ON("Refitter::getWeightsPrototype", [](Object*, const char* name) {
    return pynn::abi::Weights{0, nullptr, std::strcmp(name, "w") == 0 ? 2 : -1};
  });
  ON("Refitter::setNamedWeights", set_weights);
  ON("Refitter::refitCudaEngine", [](Object* o) {
    if (o->numbers[1] != 4) return log(o->logger, 1, "Cannot refit engine due to missing weights"), false;
    return true;
  });
  ON("ParserRefitter::destroy", destroy);
  ON("ParserRefitter::clearErrors", [](Object* o) { o->errors = 0; });
  ON("ParserRefitter::getNbErrors", [](Object* o) { return o->errors; });
  ON("ParserRefitter::getError", [](Object* o, int32_t) { return o->owner; });
  ON("ParserRefitter::refitFromBytes", parser_set);
  ON("ParserRefitter::loadModelProto", parser_set);
  ON("ParserRefitter::loadInitializer", [](Object*, const char* name, const void*, uint64_t size) {
    return std::strcmp(name, "w") == 0 && size == 8;
  });
  ON("ParserRefitter::refitModelProto", [](Object*) { return !fault("refit_loaded"); });
#undef ON
}

std::map<std::string, void*> handlers() {
  std::map<std::string, void*> all;
#define ON(name, ...) all[name] = address(+(__VA_ARGS__))
  for (const char* kind : {"Runtime", "Engine", "ExecutionContext"})
    ON(std::string(kind) + "::getPImpl", self);
  auto logger = [](Object* object) { return fault("wrong_logger") ? nullptr : object->logger; };
  ON("Builder::getLogger", logger);
  ON("Runtime::getLogger", logger);
  ON("Builder::setMaxThreads", [](Object*, int32_t threads) { return threads < 100; });
  ON("Builder::buildSerializedNetwork", build);
  ON("Builder::createBuilderConfig", [](Object* o) { return make("BuilderConfig", &o->face, o->logger); });
  ON("Builder::createNetworkV2", [](Object* o, uint32_t flags) {
    return flags == (generation() % 2 == 0 ? 2u : 1u) ? make("Network", &o->face, o->logger) : nullptr;
  });
  ON("Builder::createOptimizationProfile", [](Object*) { return static_cast<Public*>(nullptr); });
  ON("Network::getBuilder", [](Object* o) { return fault("wrong_builder") ? o : o->owner; });
  for (const char* count : {"getNbLayers", "getNbInputs", "getNbOutputs"})
    ON(std::string("Network::") + count, [](Object* o) { return o->errors; });
  ON("BuilderConfig::setFlag", [](Object* o, int32_t flag) { o->numbers[flag] = 1; });
  ON("BuilderConfig::clearFlag", [](Object* o, int32_t flag) { o->numbers[flag] = 0; });
  ON("BuilderConfig::getFlag", [](Object* o, int32_t flag) { return o->numbers[flag] == 1; });
  ON("BuilderConfig::setMaxAuxStreams", [](Object* o, int32_t streams) { o->numbers[1000] = streams; });
  ON("BuilderConfig::getMaxAuxStreams", [](Object* o) { return static_cast<int32_t>(o->numbers[1000]); });
  ON("BuilderConfig::setProgressMonitor", [](Object* o, void* monitor) { o->monitor = monitor; });
  ON("BuilderConfig::getTimingCache", [](Object*) { return bogus(); });
  ON("HostMemory::data", [](Object* o) { return static_cast<void*>(o->text.data()); });
  ON("HostMemory::size", [](Object* o) { return static_cast<uint64_t>(o->text.size()); });
  ON("Parser::destroy", destroy);
  ON("Parser::clearErrors", [](Object*) {});
  ON("Parser::getNbErrors", [](Object* o) { return o->errors; });
  ON("Parser::getError", [](Object* o, int32_t) { return o->owner; });
  ON("Parser::parse", [](Object* o, const void*, uint64_t, const char*) {
    if (fault("parse_bogus_error")) o->errors = 1, o->owner = bogus();
    return false;
  });
  ON("Runtime::deserializeCudaEngine", deserialize);
  ON("Runtime::getEngineHeaderSize", [](Object*) { return int64_t{64}; });
  ON("Runtime::getEngineValidity", [](Object*, const void*, int64_t, uint64_t*) { return 1; });
  ON("Engine::getNbIOTensors", [](Object*) { return 2; });
  ON("Engine::getIOTensorName", [](Object*, int32_t index) { return name_of(index); });
  ON("Engine::getTensorIOMode", [](Object*, const char* name) { return *name == 'x' ? 1 : 2; });
  ON("Engine::getTensorDataType", [](Object*, const char*) { return 0; });
  ON("Engine::getTensorLocation", [](Object*, const char* name) { return *name == 'x' ? 1 : 0; });
  ON("Engine::isShapeInferenceIO", [](Object*, const char* name) { return *name == 'x'; });
  ON("Engine::getTensorBytesPerComponent", [](Object*, const char*) { return -1; });
  ON("Engine::getTensorShape", [](Object*, const char*) { return Dims{2, {-1, 3}}; });
  ON("Engine::getProfileShape",
     [](Object*, const char*, int32_t, int32_t which) { return Dims{1, {which}}; });
  for (const char* count : {"getNbOptimizationProfiles", "getNbLayers", "getNbAuxStreams"})
    ON(std::string("Engine::") + count, [](Object*) { return 3; });
  ON("Engine::isRefittable", [](Object*) { return !fault("not_refittable"); });
  ON("Engine::setWeightStreamingBudgetV2", [](Object* o, int64_t bytes) {
    if (bytes > 79) return log(o->logger, 1, "there is a context"), false;
    o->numbers[0] = bytes;
    return true;
  });
  ON("Engine::getWeightStreamingBudgetV2", [](Object* o) { return o->numbers[0]; });
  ON("Engine::getWeightStreamingAutomaticBudget", [](Object*) { return int64_t{60}; });
  ON("Engine::getWeightStreamingScratchMemorySize", [](Object*) { return int64_t{8}; });
  ON("Engine::getDeviceMemorySizeForProfileV2",
     [](Object*, int32_t profile) { return int64_t{100} + profile; });
  refit_handlers(&all);
  ON("Engine::getName", [](Object*) { return static_cast<const char*>(nullptr); });
  ON("Engine::getDeviceMemorySize", [](Object*) { return uint64_t{77}; });
  ON("Engine::getDeviceMemorySizeV2", [](Object*) { return int64_t{78}; });
  ON("Engine::getStreamableWeightsSize", [](Object*) { return int64_t{79}; });
  ON("Engine::serialize", [](Object*) { return bogus(); });
  ON("Engine::createEngineInspector", [](Object* o) { return make("EngineInspector", o, o->logger); });
  ON("EngineInspector::setExecutionContext", [](Object*, void*) { return true; });
  ON("EngineInspector::getEngineInformation",
     [](Object*, int32_t format) { return format ? "{}" : "layers"; });
  ON("Engine::createExecutionContext", [](Object* o, int32_t strategy) {
    return strategy >= 0 && strategy <= 2 ? make("ExecutionContext", o, o->logger) : nullptr;
  });
  ON("Engine::createRuntimeConfig", [](Object* o) { return make("RuntimeConfig", o, o->logger); });
  ON("Engine::createExecutionContextWithRuntimeConfig",
     [](Object* o, Public*) { return make("ExecutionContext", o, o->logger); });
  ON("RuntimeConfig::createRuntimeCache", [](Object* o) { return make("RuntimeCache", o, o->logger); });
  ON("RuntimeConfig::setRuntimeCache", [](Object*, void*) { return true; });
  ON("RuntimeConfig::setExecutionContextAllocationStrategy", [](Object*, int32_t) {});
  ON("RuntimeConfig::setDynamicShapesKernelSpecializationStrategy", [](Object*, int32_t) {});
  ON("RuntimeConfig::setCudaGraphStrategy", [](Object*, int32_t) { return !fault("graph_strategy"); });
  ON("RuntimeCache::deserialize",
     [](Object* o, const char* data, uint64_t size) { return o->text.append(data, size), false; });
  ON("RuntimeCache::serialize", [](Object* o) {
    Public* memory = make("HostMemory", o, o->logger);
    memory->impl->text = "cache:" + o->text;
    return memory;
  });
  ON("ExecutionContext::setOptimizationProfileAsync",
     [](Object*, int32_t profile, void*) { return profile < 2; });
  ON("ExecutionContext::setInputShape", [](Object* o, const char* name, const Dims* dims) {
    if (dims->rank != 2) return false;
    o->shapes[name] = *dims;
    return true;
  });
  ON("ExecutionContext::getTensorShape", context_shape);
  ON("ExecutionContext::setTensorAddress",
     [](Object* o, const char* name, void* where) { return (o->addresses[name] = where) != nullptr; });
  ON("ExecutionContext::updateDeviceMemorySizeForShapes", [](Object*) { return uint64_t{512}; });
  ON("ExecutionContext::setDeviceMemoryV2", [](Object* o, void* memory, int64_t size) {
    if (memory == nullptr || size < 512) log(o->logger, 1, "too little memory");
  });
  ON("ExecutionContext::inferShapes", infer_shapes);
  ON("ExecutionContext::getMaxOutputSize",
     [](Object*, const char*) { return fault("no_size") ? int64_t{-1} : 24; });
  ON("ExecutionContext::enqueueV3", enqueue);
  ON("ExecutionContext::isStreamCapturable", [](Object*, void*) { return !fault("not_capturable"); });
#undef ON
  return all;
}

Public* make(const char* kind, void* owner, void* logger) {
  static const std::map<std::string, void*> known = handlers();
  auto* object = new Object{};
  live().insert(object);
  object->owner = owner;
  object->logger = logger;
  object->table = new void*[128];
  object->face = {new void*[128], object};
  for (int i = 0; i < 128; ++i) object->face.vtable[i] = object->table[i] = address(trap);
  object->face.vtable[1] = address(destroy_face);
  auto install = [&](const char* class_name, const char* name, const Row& row) {
    const Cell& cell = row[static_cast<size_t>(generation())];
    if (std::strcmp(class_name, kind) != 0 || cell.number < 0 || cell.since > minor()) return;
    auto found = known.find(name);
    if (found == known.end()) return;
    object->table[cell.number + (cell.late && version() / 100 == 1008)] = found->second;
  };
#define METHOD(class_, method, ...) \
  install(#class_, #class_ "::" #method, pynn::abi::slot::class_##_##method.row);
#include "../abi/slots.inc"
#undef METHOD
  return &object->face;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int fake_tensorrt_live() { return static_cast<int>(live().size()); }
EXPORT int32_t getInferLibVersion() { return version(); }
EXPORT int32_t getInferLibBuildVersion() { return 42; }
EXPORT void* createInferBuilder_INTERNAL(void* logger, int32_t) {
  if (fault("no_gpu")) log(logger, 1, "CUDA initialization failure with error: 35");
  if (fault("null_builder") || fault("no_gpu")) return nullptr;
  return make("Builder", nullptr, logger);
}
EXPORT void* createInferRuntime_INTERNAL(void* logger, int32_t) {
  return fault("null_runtime") ? bogus() : make("Runtime", nullptr, logger);
}
EXPORT void* createNvOnnxParser_INTERNAL(void*, void* logger, int) {
  // Its methods are in its own vtable.
  return fault("null_parser") ? nullptr : make("Parser", nullptr, logger)->impl;
}
EXPORT void* createInferRefitter_INTERNAL(void*, void* logger, int32_t) {
  return fault("null_refitter") ? bogus() : make("Refitter", nullptr, logger);
}
EXPORT void* createNvOnnxParserRefitter_INTERNAL(void*, void* logger, int) {
  return fault("null_parser") ? nullptr : make("ParserRefitter", nullptr, logger)->impl;
}
EXPORT int getNvOnnxParserVersion() { return 300; }
