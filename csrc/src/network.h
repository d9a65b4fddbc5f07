// INetworkDefinition, its tensors and layers.
#pragma once

#include <vector>

#include "builder.h"

struct pynn_trt_tensor_info;
struct pynn_trt_layer_info;

namespace pynn {

class Network {
 public:
  explicit Network(std::shared_ptr<Builder> builder);

  Builder& builder() const { return *builder_; }
  Logger& logger() const { return builder_->logger(); }
  const abi::Abi& abi() const { return builder_->abi(); }
  abi::Network* native() const { return native_.get(); }

  int32_t input_count() const;
  int32_t output_count() const;
  int32_t layer_count() const;
  void describe_input(int32_t index, pynn_trt_tensor_info* info) const;
  void describe_output(int32_t index, pynn_trt_tensor_info* info) const;
  void describe_layer(int32_t index, pynn_trt_layer_info* info) const;
  void describe_layer_input(int32_t layer, int32_t index, pynn_trt_tensor_info* info) const;
  void describe_layer_output(int32_t layer, int32_t index, pynn_trt_tensor_info* info) const;
  void mark_output(const char* tensor);
  void unmark_output(const char* tensor);

  // Constants of the network lie in the parser that read them.
  void keep(std::shared_ptr<abi::Parser> parser) { parsers_.push_back(std::move(parser)); }

 private:
  abi::Layer* layer(int32_t index) const;
  abi::Tensor* find(const char* name) const;
  void describe(const abi::Tensor* tensor, pynn_trt_tensor_info* info) const;

  std::shared_ptr<Builder> builder_;
  abi::Owned<abi::Network> native_;
  std::vector<std::shared_ptr<abi::Parser>> parsers_;
};

}  // namespace pynn
