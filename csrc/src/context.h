// IExecutionContext with its runtime configuration and cache.
#pragma once

#include "engine.h"

struct pynn_trt_context_options;

namespace pynn {

class Context {
 public:
  Context(std::shared_ptr<Engine> engine, const pynn_trt_context_options& options);

  const Engine& engine() const { return *engine_; }
  Logger& logger() const { return engine_->logger(); }
  const abi::ExecutionContext* native() const { return native_.get(); }

  std::shared_ptr<Blob> runtime_cache() const;
  void set_profile(int32_t profile, uint64_t stream);
  void set_input_shape(const char* input, const abi::Dims& dims);
  abi::Dims tensor_shape(const char* tensor) const;
  void infer_shapes();
  int64_t max_output_size(const char* output) const;
  void set_address(const char* tensor, uint64_t address);
  int64_t device_memory_size();
  void set_device_memory(uint64_t address, int64_t size);
  void enqueue(uint64_t stream);
  bool is_stream_capturable(uint64_t stream) const;
  bool can_tell_capturable() const { return abi().has(abi::slot::ExecutionContext_isStreamCapturable); }

  // Changes with whatever a recorded CUDA graph has in it: shapes, profile, memory.
  uint64_t revision() const { return revision_; }
  // Whose addresses are set.
  const void* bound_by() const { return bound_by_; }
  void set_bound_by(const void* owner) { bound_by_ = owner; }

 private:
  const abi::Abi& abi() const { return engine_->abi(); }
  void configure(const LogScope& log, const pynn_trt_context_options& options);

  std::shared_ptr<Engine> engine_;
  abi::Owned<abi::RuntimeCache> cache_;
  abi::Owned<abi::RuntimeConfig> config_;
  abi::Owned<abi::ExecutionContext> native_;
  uint64_t revision_ = 0;
  const void* bound_by_ = nullptr;
};

}  // namespace pynn
