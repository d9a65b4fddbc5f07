// The hot path: arrays in, arrays out, one call.
#pragma once

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
  void describe(pynn_trt_runner_info* info) const;

 private:
  struct Buffer {
    std::string name;
    void* staging;
    uint64_t device;
    size_t bytes;
    bool mapped;
  };

  struct Destroy {
    int (*function)(void*);
    void operator()(void* object) const { function(object); }
  };
  using Resource = std::unique_ptr<void, Destroy>;

  void add(const pynn_trt_binding& binding);
  void require_complete() const;
  void bind();
  void send();
  void send_plain();
  void try_capture();
  void capture();
  void wait();

  // Outlives the resources below.
  std::shared_ptr<Context> context_;
  const Driver& driver_;
  void* const stream_;
  const uint64_t cuda_context_;
  const bool block_;
  bool want_graph_;
  std::vector<Buffer> inputs_;
  std::vector<Buffer> outputs_;
  uint64_t revision_;
  uint64_t runs_ = 0;
  Resource event_{nullptr, {nullptr}};
  Resource graph_{nullptr, {nullptr}};
  std::string no_graph_reason_;
};

}  // namespace pynn
