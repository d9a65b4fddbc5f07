// The hot path: arrays in, arrays out, one call.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "context.h"
#include "device.h"

struct pynn_trt_binding;
struct pynn_trt_runner_options;
struct pynn_trt_runner_info;

namespace pynn {

class Runner {
 public:
  Runner(std::shared_ptr<Context> context, const pynn_trt_runner_options& options,
         const pynn_trt_binding* bindings, int32_t count);
  ~Runner();
  Runner(const Runner&) = delete;

  void run(const void* const* inputs, void* const* outputs);
  void launch();
  void describe(pynn_trt_runner_info* info) const;

 private:
  struct Buffer {
    std::string name;
    void* staging;
    uint64_t device;
    size_t bytes;
    bool mapped;
    void* host = nullptr;  // where this run's copy on the GPU's side reads or writes
    bool copied() const { return !mapped && bytes != 0; }
  };

  struct Destroy {
    int (*function)(void*);
    void operator()(void* object) const { function(object); }
  };
  using Resource = std::unique_ptr<void, Destroy>;

  void add(const pynn_trt_binding& binding);
  void require_complete() const;
  void bind();
  void stage(const void* const* inputs);
  void stage(Buffer& buffer, const void* array);
  void send();
  void enqueue();
  void send_outputs(void* const* outputs);
  bool is_pinned(const void* memory, size_t bytes) const;
  void try_capture();
  void capture();
  void wait();
  void sleep_until_done();

  // Outlives the resources below.
  std::shared_ptr<Context> context_;
  const Driver& driver_;
  void* const stream_;
  const uint64_t cuda_context_;
  const int32_t wait_;
  bool want_graph_;
  std::vector<Buffer> inputs_;
  std::vector<Buffer> outputs_;
  uint64_t revision_;
  std::atomic<uint64_t> runs_{0};
  Resource event_{nullptr, {nullptr}};
  Resource graph_{nullptr, {nullptr}};
  // Read by describe() while another thread runs: the text it points to never changes.
  std::atomic<const char*> no_graph_reason_{""};
  std::string capture_failure_;
};

}  // namespace pynn
