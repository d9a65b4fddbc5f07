// ICudaEngine. Its queries may come from many threads.
#pragma once

#include "blob.h"
#include "runtime.h"

struct pynn_trt_engine_info;
struct pynn_trt_tensor_info;
struct pynn_trt_weight_streaming_info;

namespace pynn {

class Engine {
 public:
  Engine(std::shared_ptr<Runtime> runtime, const void* plan, uint64_t size);

  Logger& logger() const { return *runtime_->logger(); }
  const std::shared_ptr<Logger>& shared_logger() const { return runtime_->logger(); }
  const abi::Abi& abi() const { return runtime_->abi(); }
  abi::Engine* native() const { return native_.get(); }

  int32_t io_count() const;
  const char* io_name(int32_t index) const;
  bool is_input(const char* tensor) const;
  // Throws INVALID_ARGUMENT for a name that is none of the engine's inputs and outputs.
  void require_io(const char* tensor) const;
  int32_t bits_per_component(const char* tensor) const;
  void describe(pynn_trt_engine_info* info) const;
  void describe_io(int32_t index, pynn_trt_tensor_info* info) const;
  void set_weight_budget(int64_t bytes);
  void describe_weight_streaming(pynn_trt_weight_streaming_info* info) const;
  // Bytes that a context of this profile needs for activations.
  int64_t device_memory(int32_t profile) const;
  abi::Dims profile_shape(const char* input, int32_t profile, int32_t selector) const;
  std::string inspect(const abi::ExecutionContext* context, int32_t format) const;
  std::shared_ptr<Blob> serialize() const;
  std::shared_ptr<Blob> merge_runtime_caches(const void* const* caches, const uint64_t* sizes,
                                             int32_t count) const;

 private:
  std::shared_ptr<Runtime> runtime_;
  abi::Owned<abi::Engine> native_;
};

}  // namespace pynn
