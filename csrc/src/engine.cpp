#include "engine.h"

#include "context.h"
#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

constexpr int32_t kModeInput = 1;
constexpr int32_t kLocationHost = 1;
constexpr int32_t kBits[] = {32, 16, 8, 32, 8, 8, 8, 16, 64, 4, 4, 8};

}  // namespace

Engine::Engine(std::shared_ptr<Runtime> runtime, const void* plan, uint64_t size)
    : runtime_(std::move(runtime)), native_(runtime_->deserialize(plan, size)) {}

int32_t Engine::io_count() const { return abi().call(abi::slot::Engine_getNbIOTensors, native()); }

const char* Engine::io_name(int32_t index) const {
  return text_or_empty(abi().call(abi::slot::Engine_getIOTensorName, native(), index));
}

bool Engine::is_input(const char* tensor) const {
  return abi().call(abi::slot::Engine_getTensorIOMode, native(), tensor) == kModeInput;
}

void Engine::require_io(const char* tensor) const {
  require_text(tensor, "tensor");
  std::string names;
  for (int32_t i = 0, count = io_count(); i < count; ++i) {
    if (std::strcmp(io_name(i), tensor) == 0) return;
    names += join(names.empty() ? "'" : ", '", io_name(i), "'");
  }
  throw Failure(PYNN_TRT_INVALID_ARGUMENT, join("the engine has no tensor '", tensor, "', only ", names));
}

int32_t Engine::bits_per_component(const char* tensor) const {
  int32_t type = abi().call(abi::slot::Engine_getTensorDataType, native(), tensor);
  return type >= 0 && type < static_cast<int32_t>(std::size(kBits)) ? kBits[type] : 0;
}

void Engine::describe(pynn_trt_engine_info* info) const {
  pynn_trt_engine_info value{};
  value.io_count = io_count();
  value.profile_count = abi().call(abi::slot::Engine_getNbOptimizationProfiles, native());
  value.layer_count = abi().call(abi::slot::Engine_getNbLayers, native());
  value.refittable = abi().call(abi::slot::Engine_isRefittable, native());
  value.aux_streams = abi().call(abi::slot::Engine_getNbAuxStreams, native());
  value.device_memory = -1;
  if (abi().has(abi::slot::Engine_getDeviceMemorySizeV2))
    value.device_memory = abi().call(abi::slot::Engine_getDeviceMemorySizeV2, native());
  else if (abi().has(abi::slot::Engine_getDeviceMemorySize))
    value.device_memory = static_cast<int64_t>(abi().call(abi::slot::Engine_getDeviceMemorySize, native()));
  value.streamable_weights = abi().call(abi::slot::Engine_getStreamableWeightsSize, native());
  value.name = text_or_empty(abi().call(abi::slot::Engine_getName, native()));
  write_struct(info, value, "info");
}

void Engine::describe_io(int32_t index, pynn_trt_tensor_info* info) const {
  require_index(index, io_count(), "index");
  const char* name = io_name(index);
  pynn_trt_tensor_info value{};
  value.data_type = abi().call(abi::slot::Engine_getTensorDataType, native(), name);
  value.is_input = is_input(name);
  value.is_output = !value.is_input;
  value.is_shape_tensor = abi().call(abi::slot::Engine_isShapeInferenceIO, native(), name);
  value.on_host = abi().call(abi::slot::Engine_getTensorLocation, native(), name) == kLocationHost;
  // TensorRT answers -1 for tensors that are not vectorized; half-byte types are 0 bytes.
  value.bytes_per_component = abi().call(abi::slot::Engine_getTensorBytesPerComponent, native(), name);
  if (value.bytes_per_component <= 0) value.bytes_per_component = bits_per_component(name) / 8;
  copy_dims(abi().call(abi::slot::Engine_getTensorShape, native(), name), value.dims, &value.rank);
  value.name = name;
  write_struct(info, value, "info");
}

void Engine::set_weight_budget(int64_t bytes) {
  require(bytes >= 0, "the budget is ", bytes, " bytes");
  LogScope log(logger());
  if (!abi().call(abi::slot::Engine_setWeightStreamingBudgetV2, native(), bytes))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot give the engine's weights ", bytes, " bytes"));
}

void Engine::describe_weight_streaming(pynn_trt_weight_streaming_info* info) const {
  pynn_trt_weight_streaming_info value{};
  LogScope log(logger());
  value.streamable = abi().call(abi::slot::Engine_getStreamableWeightsSize, native());
  value.budget = abi().call(abi::slot::Engine_getWeightStreamingBudgetV2, native());
  value.automatic = abi().call(abi::slot::Engine_getWeightStreamingAutomaticBudget, native());
  value.scratch = abi().call(abi::slot::Engine_getWeightStreamingScratchMemorySize, native());
  write_struct(info, value, "info");
}

int64_t Engine::device_memory(int32_t profile) const {
  require_index(profile, abi().call(abi::slot::Engine_getNbOptimizationProfiles, native()), "profile");
  LogScope log(logger());
  return abi().call(abi::slot::Engine_getDeviceMemorySizeForProfileV2, native(), profile);
}

abi::Dims Engine::profile_shape(const char* input, int32_t profile, int32_t selector) const {
  require_io(input);
  require(is_input(input), "'", input, "' is an output, profiles have shapes of inputs");
  require_index(profile, abi().call(abi::slot::Engine_getNbOptimizationProfiles, native()), "profile");
  require(selector >= PYNN_TRT_PROFILE_MIN && selector <= PYNN_TRT_PROFILE_MAX, "selector is ", selector,
          ", allowed are 0 to 2");
  LogScope log(logger());
  abi::Dims dims = abi().call(abi::slot::Engine_getProfileShape, native(), input, profile, selector);
  if (dims.rank < 0)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot get the profile shape of '", input, "'"));
  return dims;
}

std::string Engine::inspect(const abi::ExecutionContext* context, int32_t format) const {
  require(format == 0 || format == 1, "format is ", format, ", allowed are 0 and 1");
  LogScope log(logger());
  auto* raw = abi().call(abi::slot::Engine_createEngineInspector, native());
  auto inspector = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the engine inspector");
  if (context != nullptr &&
      !abi().call(abi::slot::EngineInspector_setExecutionContext, inspector.get(), context))
    throw log.failure(PYNN_TRT_INTERNAL, "cannot inspect the execution context");
  const char* text = abi().call(abi::slot::EngineInspector_getEngineInformation, inspector.get(), format);
  if (text == nullptr) throw log.failure(PYNN_TRT_INTERNAL, "cannot inspect the engine");
  return text;
}

std::shared_ptr<Blob> Engine::serialize() const {
  LogScope log(logger());
  auto* raw = abi().call(abi::slot::Engine_serialize, native());
  return std::make_shared<Blob>(shared_logger(),
                                adopt(log, raw, PYNN_TRT_INTERNAL, "cannot serialize the engine"));
}

std::shared_ptr<Blob> Engine::merge_runtime_caches(const void* const* caches, const uint64_t* sizes,
                                                   int32_t count) const {
  require(count >= 0 && (count == 0 || (caches != nullptr && sizes != nullptr)), "caches is NULL");
  LogScope log(logger());
  auto config = adopt(log, abi().call(abi::slot::Engine_createRuntimeConfig, native()), PYNN_TRT_INTERNAL,
                      "cannot create a runtime configuration");
  auto cache = adopt(log, abi().call(abi::slot::RuntimeConfig_createRuntimeCache, config.get()),
                     PYNN_TRT_INTERNAL, "cannot create a runtime cache");
  for (int32_t i = 0; i < count; ++i) {
    require_bytes(caches[i], sizes[i], "caches[]");
    if (sizes[i] != 0) abi().call(abi::slot::RuntimeCache_deserialize, cache.get(), caches[i], sizes[i]);
  }
  auto* merged = abi().call(abi::slot::RuntimeCache_serialize, cache.get());
  return std::make_shared<Blob>(shared_logger(),
                                adopt(log, merged, PYNN_TRT_INTERNAL, "cannot serialize the runtime cache"));
}

}  // namespace pynn

using namespace pynn;

extern "C" {

void pynn_trt_engine_destroy(pynn_trt_engine* engine) { delete engine; }

int32_t pynn_trt_engine_describe(const pynn_trt_engine* engine, pynn_trt_engine_info* info,
                                 pynn_trt_error** error) {
  return guard(error, [&] { self(engine, "engine").describe(info); });
}

int32_t pynn_trt_engine_describe_io(const pynn_trt_engine* engine, int32_t index, pynn_trt_tensor_info* info,
                                    pynn_trt_error** error) {
  return guard(error, [&] { self(engine, "engine").describe_io(index, info); });
}

int32_t pynn_trt_engine_profile_shape(const pynn_trt_engine* engine, const char* input, int32_t profile,
                                      int32_t selector, int64_t* dims, int32_t* rank,
                                      pynn_trt_error** error) {
  return guard(error, [&] {
    const Engine& object = self(engine, "engine");
    out(dims, "dims");
    copy_dims(object.profile_shape(input, profile, selector), dims, &out(rank, "rank"));
  });
}

int32_t pynn_trt_engine_set_weight_budget(pynn_trt_engine* engine, int64_t bytes, pynn_trt_error** error) {
  return guard(error, [&] { self(engine, "engine").set_weight_budget(bytes); });
}

int32_t pynn_trt_engine_describe_weight_streaming(const pynn_trt_engine* engine,
                                                  pynn_trt_weight_streaming_info* info,
                                                  pynn_trt_error** error) {
  return guard(error, [&] { self(engine, "engine").describe_weight_streaming(info); });
}

int32_t pynn_trt_engine_device_memory(const pynn_trt_engine* engine, int32_t profile, int64_t* bytes,
                                      pynn_trt_error** error) {
  return guard(error, [&] {
    const Engine& object = self(engine, "engine");
    out(bytes, "bytes") = object.device_memory(profile);
  });
}

int32_t pynn_trt_engine_inspect(const pynn_trt_engine* engine, const pynn_trt_context* context,
                                int32_t format, pynn_trt_blob** text, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(text, "text");
    const Engine& object = self(engine, "engine");
    require(context == nullptr || &context->object->engine() == &object, "context belongs to another engine");
    const abi::ExecutionContext* inspected = context ? context->object->native() : nullptr;
    result = new pynn_trt_blob{std::make_shared<Blob>(object.inspect(inspected, format))};
  });
}

int32_t pynn_trt_engine_merge_runtime_caches(pynn_trt_engine* engine, const void* const* caches,
                                             const uint64_t* sizes, int32_t count, pynn_trt_blob** merged,
                                             pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(merged, "merged");
    result = new pynn_trt_blob{self(engine, "engine").merge_runtime_caches(caches, sizes, count)};
  });
}

int32_t pynn_trt_engine_serialize(const pynn_trt_engine* engine, pynn_trt_blob** plan,
                                  pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(plan, "plan");
    result = new pynn_trt_blob{self(engine, "engine").serialize()};
  });
}
}
