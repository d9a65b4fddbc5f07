#include "context.h"

#include <vector>

#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

pynn_trt_context_options read_options(const pynn_trt_context_options* given) {
  pynn_trt_context_options options{};
  options.allocation_strategy = options.cuda_graph_strategy = options.kernel_specialization = -1;
  if (given == nullptr) return options;
  options = read_struct(given, "options");
  require(options.allocation_strategy >= -1 && options.allocation_strategy <= 2, "allocation_strategy is ",
          options.allocation_strategy, ", allowed are -1 to 2");
  require(options.cuda_graph_strategy >= -1 && options.cuda_graph_strategy <= 1, "cuda_graph_strategy is ",
          options.cuda_graph_strategy, ", allowed are -1 to 1");
  require(options.kernel_specialization >= -1 && options.kernel_specialization <= 2,
          "kernel_specialization is ", options.kernel_specialization, ", allowed are -1 to 2");
  require_bytes(options.runtime_cache, options.runtime_cache_size, "runtime_cache");
  return options;
}

bool wants_cache(const pynn_trt_context_options& options) {
  return options.use_runtime_cache != 0 || options.runtime_cache_size != 0;
}

bool needs_config(const pynn_trt_context_options& options) {
  return options.cuda_graph_strategy >= 0 || options.kernel_specialization >= 0 || wants_cache(options);
}

void* as_pointer(uint64_t address) { return reinterpret_cast<void*>(static_cast<uintptr_t>(address)); }

}  // namespace

Context::Context(std::shared_ptr<Engine> engine, const pynn_trt_context_options& options)
    : engine_(std::move(engine)) {
  LogScope log(logger());
  abi::ExecutionContext* raw;
  if (needs_config(options)) {
    configure(log, options);
    raw = abi().call(abi::slot::Engine_createExecutionContextWithRuntimeConfig, engine_->native(),
                     config_.get());
  } else {
    int32_t strategy = std::max(options.allocation_strategy, 0);
    raw = abi().call(abi::slot::Engine_createExecutionContext, engine_->native(), strategy);
  }
  native_ = adopt(log, raw, PYNN_TRT_EXECUTION_FAILED, "cannot create the execution context");
  prove(logger(), native_, abi::slot::ExecutionContext_getPImpl, native_.get());
}

void Context::configure(const LogScope& log, const pynn_trt_context_options& options) {
  auto* raw = abi().call(abi::slot::Engine_createRuntimeConfig, engine_->native());
  config_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the runtime configuration");
  abi::RuntimeConfig* config = config_.get();
  if (options.allocation_strategy >= 0)
    abi().call(abi::slot::RuntimeConfig_setExecutionContextAllocationStrategy, config,
               options.allocation_strategy);
  if (options.kernel_specialization >= 0)
    abi().call(abi::slot::RuntimeConfig_setDynamicShapesKernelSpecializationStrategy, config,
               options.kernel_specialization);
  if (options.cuda_graph_strategy >= 0 &&
      !abi().call(abi::slot::RuntimeConfig_setCudaGraphStrategy, config, options.cuda_graph_strategy))
    throw log.failure(PYNN_TRT_NOT_SUPPORTED,
                      join("cannot set the CUDA graph strategy ", options.cuda_graph_strategy));
  if (!wants_cache(options)) return;
  auto* cache = abi().call(abi::slot::RuntimeConfig_createRuntimeCache, config);
  cache_ = adopt(log, cache, PYNN_TRT_INTERNAL, "cannot create the runtime cache");
  // A cache of another GPU or version, or a damaged one, only costs time: it stays empty.
  if (options.runtime_cache_size != 0)
    abi().call(abi::slot::RuntimeCache_deserialize, cache_.get(), options.runtime_cache,
               options.runtime_cache_size);
  if (!abi().call(abi::slot::RuntimeConfig_setRuntimeCache, config, cache_.get()))
    throw log.failure(PYNN_TRT_INTERNAL, "cannot attach the runtime cache");
}

std::shared_ptr<Blob> Context::runtime_cache() const {
  require(cache_ != nullptr || !abi().has(abi::slot::RuntimeCache_serialize),
          "the context was created without a runtime cache");
  LogScope log(logger());
  auto* raw = abi().call(abi::slot::RuntimeCache_serialize, cache_.get());
  return std::make_shared<Blob>(engine_->shared_logger(),
                                adopt(log, raw, PYNN_TRT_INTERNAL, "cannot serialize the runtime cache"));
}

void Context::set_profile(int32_t profile, uint64_t stream) {
  require_index(profile, abi().call(abi::slot::Engine_getNbOptimizationProfiles, engine_->native()),
                "profile");
  LogScope log(logger());
  ++revision_;
  if (!abi().call(abi::slot::ExecutionContext_setOptimizationProfileAsync, native_.get(), profile,
                  as_pointer(stream)))
    throw log.failure(PYNN_TRT_EXECUTION_FAILED, join("cannot switch to optimization profile ", profile));
}

void Context::set_input_shape(const char* input, const abi::Dims& dims) {
  engine_->require_io(input);
  require(engine_->is_input(input), "'", input, "' is an output");
  LogScope log(logger());
  ++revision_;
  if (!abi().call(abi::slot::ExecutionContext_setInputShape, native_.get(), input, &dims))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT,
                      join("cannot set the shape of '", input, "' to ", shape_text(dims)));
}

abi::Dims Context::tensor_shape(const char* tensor) const {
  engine_->require_io(tensor);
  LogScope log(logger());
  abi::Dims dims = abi().call(abi::slot::ExecutionContext_getTensorShape, native_.get(), tensor);
  if (dims.rank < 0)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot get the shape of '", tensor, "'"));
  return dims;
}

void Context::infer_shapes() {
  std::vector<const char*> names(static_cast<size_t>(engine_->io_count()), nullptr);
  LogScope log(logger());
  int32_t missing = abi().call(abi::slot::ExecutionContext_inferShapes, native_.get(),
                               static_cast<int32_t>(names.size()), names.data());
  if (missing == 0) return;
  if (missing < 0) throw log.failure(PYNN_TRT_INVALID_ARGUMENT, "cannot infer the output shapes");
  std::string list;
  for (int32_t i = 0; i < missing && i < static_cast<int32_t>(names.size()); ++i)
    list += join(i ? ", '" : "'", text_or_empty(names[static_cast<size_t>(i)]), "'");
  throw Failure(PYNN_TRT_INVALID_ARGUMENT, join("these inputs lack a shape or values: ", list));
}

int64_t Context::max_output_size(const char* output) const {
  engine_->require_io(output);
  require(!engine_->is_input(output), "'", output, "' is an input");
  LogScope log(logger());
  int64_t bytes = abi().call(abi::slot::ExecutionContext_getMaxOutputSize, native_.get(), output);
  if (bytes < 0)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot get the largest size of '", output, "'"));
  return bytes;
}

void Context::set_address(const char* tensor, uint64_t address) {
  require_text(tensor, "tensor");
  LogScope log(logger());
  bound_by_ = nullptr;
  if (!abi().call(abi::slot::ExecutionContext_setTensorAddress, native_.get(), tensor, as_pointer(address)))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot set the address of '", tensor, "'"));
}

int64_t Context::device_memory_size() {
  return static_cast<int64_t>(
      abi().call(abi::slot::ExecutionContext_updateDeviceMemorySizeForShapes, native_.get()));
}

void Context::set_device_memory(uint64_t address, int64_t size) {
  require(size >= 0, "size is ", size);
  LogScope log(logger());
  ++revision_;
  abi().call(abi::slot::ExecutionContext_setDeviceMemoryV2, native_.get(), as_pointer(address), size);
  if (log.has_errors())
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot give the context ", size, " bytes of memory"));
}

void Context::enqueue(uint64_t stream) {
  LogScope log(logger());
  if (!abi().call(abi::slot::ExecutionContext_enqueueV3, native_.get(), as_pointer(stream)))
    throw log.failure(PYNN_TRT_EXECUTION_FAILED, "cannot run the engine");
}

bool Context::is_stream_capturable(uint64_t stream) const {
  return abi().call(abi::slot::ExecutionContext_isStreamCapturable, native_.get(), as_pointer(stream));
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_context_create(pynn_trt_engine* engine, const pynn_trt_context_options* options,
                                pynn_trt_context** context, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(context, "context");
    result = new pynn_trt_context{std::make_shared<Context>(shared(engine, "engine"), read_options(options))};
  });
}

void pynn_trt_context_destroy(pynn_trt_context* context) { delete context; }

int32_t pynn_trt_context_runtime_cache(pynn_trt_context* context, pynn_trt_blob** cache,
                                       pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(cache, "cache");
    result = new pynn_trt_blob{self(context, "context").runtime_cache()};
  });
}

int32_t pynn_trt_context_set_profile(pynn_trt_context* context, int32_t profile, uint64_t stream,
                                     pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").set_profile(profile, stream); });
}

int32_t pynn_trt_context_set_input_shape(pynn_trt_context* context, const char* input, const int64_t* dims,
                                         int32_t rank, pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").set_input_shape(input, make_dims(dims, rank, 0)); });
}

int32_t pynn_trt_context_tensor_shape(const pynn_trt_context* context, const char* tensor, int64_t* dims,
                                      int32_t* rank, pynn_trt_error** error) {
  return guard(error, [&] {
    const Context& object = self(context, "context");
    out(dims, "dims");
    copy_dims(object.tensor_shape(tensor), dims, &out(rank, "rank"));
  });
}

int32_t pynn_trt_context_infer_shapes(pynn_trt_context* context, pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").infer_shapes(); });
}

int32_t pynn_trt_context_max_output_size(const pynn_trt_context* context, const char* output, int64_t* bytes,
                                         pynn_trt_error** error) {
  return guard(error, [&] {
    const Context& object = self(context, "context");
    out(bytes, "bytes") = object.max_output_size(output);
  });
}

int32_t pynn_trt_context_set_address(pynn_trt_context* context, const char* tensor, uint64_t address,
                                     pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").set_address(tensor, address); });
}

int32_t pynn_trt_context_device_memory_size(pynn_trt_context* context, int64_t* bytes,
                                            pynn_trt_error** error) {
  return guard(error, [&] {
    Context& object = self(context, "context");
    out(bytes, "bytes") = object.device_memory_size();
  });
}

int32_t pynn_trt_context_set_device_memory(pynn_trt_context* context, uint64_t address, int64_t size,
                                           pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").set_device_memory(address, size); });
}

int32_t pynn_trt_context_enqueue(pynn_trt_context* context, uint64_t stream, pynn_trt_error** error) {
  return guard(error, [&] { self(context, "context").enqueue(stream); });
}

int32_t pynn_trt_context_is_stream_capturable(const pynn_trt_context* context, uint64_t stream,
                                              int32_t* capturable, pynn_trt_error** error) {
  return guard(error, [&] {
    const Context& object = self(context, "context");
    out(capturable, "capturable") = object.is_stream_capturable(stream);
  });
}
}
