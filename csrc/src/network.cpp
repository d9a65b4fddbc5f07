#include "network.h"

#include <cstring>

#include "handle.h"
#include "native.h"

namespace pynn {

Network::Network(std::shared_ptr<Builder> builder) : builder_(std::move(builder)) {
  LogScope log(logger());
  uint32_t flags = 1u << abi().number(abi::number::NetworkFlag_STRONGLY_TYPED);
  auto* raw = abi().call(abi::slot::Builder_createNetworkV2, builder_->native(), flags);
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the network");
  prove(logger(), native_, abi::slot::Network_getBuilder, builder_->native());
}

int32_t Network::input_count() const { return abi().call(abi::slot::Network_getNbInputs, native()); }
int32_t Network::output_count() const { return abi().call(abi::slot::Network_getNbOutputs, native()); }
int32_t Network::layer_count() const { return abi().call(abi::slot::Network_getNbLayers, native()); }

abi::Layer* Network::layer(int32_t index) const {
  require_index(index, layer_count(), "layer");
  return abi().call(abi::slot::Network_getLayer, native(), index);
}

void Network::describe(const abi::Tensor* tensor, pynn_trt_tensor_info* info) const {
  pynn_trt_tensor_info value{};
  value.data_type = -1;
  value.rank = -1;
  value.name = "";
  if (abi::is_object(tensor)) {
    value.data_type = abi().call(abi::slot::Tensor_getType, tensor);
    value.is_input = abi().call(abi::slot::Tensor_isNetworkInput, tensor);
    value.is_output = abi().call(abi::slot::Tensor_isNetworkOutput, tensor);
    value.is_shape_tensor = abi().call(abi::slot::Tensor_isShapeTensor, tensor);
    copy_dims(abi().call(abi::slot::Tensor_getDimensions, tensor), value.dims, &value.rank);
    value.name = text_or_empty(abi().call(abi::slot::Tensor_getName, tensor));
  }
  write_struct(info, value, "info");
}

void Network::describe_input(int32_t index, pynn_trt_tensor_info* info) const {
  require_index(index, input_count(), "index");
  describe(abi().call(abi::slot::Network_getInput, native(), index), info);
}

void Network::describe_output(int32_t index, pynn_trt_tensor_info* info) const {
  require_index(index, output_count(), "index");
  describe(abi().call(abi::slot::Network_getOutput, native(), index), info);
}

void Network::describe_layer(int32_t index, pynn_trt_layer_info* info) const {
  const abi::Layer* found = layer(index);
  pynn_trt_layer_info value{};
  value.type = abi().call(abi::slot::Layer_getType, found);
  value.input_count = abi().call(abi::slot::Layer_getNbInputs, found);
  value.output_count = abi().call(abi::slot::Layer_getNbOutputs, found);
  value.name = text_or_empty(abi().call(abi::slot::Layer_getName, found));
  write_struct(info, value, "info");
}

void Network::describe_layer_input(int32_t index, int32_t input, pynn_trt_tensor_info* info) const {
  const abi::Layer* found = layer(index);
  require_index(input, abi().call(abi::slot::Layer_getNbInputs, found), "index");
  describe(abi().call(abi::slot::Layer_getInput, found, input), info);
}

void Network::describe_layer_output(int32_t index, int32_t output, pynn_trt_tensor_info* info) const {
  const abi::Layer* found = layer(index);
  require_index(output, abi().call(abi::slot::Layer_getNbOutputs, found), "index");
  describe(abi().call(abi::slot::Layer_getOutput, found, output), info);
}

abi::Tensor* Network::find(const char* name) const {
  require_text(name, "tensor");
  for (int32_t i = 0, layers = layer_count(); i < layers; ++i) {
    const abi::Layer* found = layer(i);
    for (int32_t j = 0, outputs = abi().call(abi::slot::Layer_getNbOutputs, found); j < outputs; ++j) {
      abi::Tensor* tensor = abi().call(abi::slot::Layer_getOutput, found, j);
      if (!abi::is_object(tensor)) continue;
      if (std::strcmp(text_or_empty(abi().call(abi::slot::Tensor_getName, tensor)), name) == 0) return tensor;
    }
  }
  throw Failure(PYNN_TRT_INVALID_ARGUMENT, join("no layer of the network has an output named '", name, "'"));
}

void Network::mark_output(const char* name) {
  abi::Tensor* tensor = find(name);
  if (abi().call(abi::slot::Tensor_isNetworkOutput, tensor)) return;
  LogScope log(logger());
  abi().call(abi::slot::Network_markOutput, native(), tensor);
  if (!abi().call(abi::slot::Tensor_isNetworkOutput, tensor))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot mark '", name, "' as an output"));
}

void Network::unmark_output(const char* name) {
  abi::Tensor* tensor = find(name);
  require(abi().call(abi::slot::Tensor_isNetworkOutput, tensor), "'", name, "' is no output of the network");
  LogScope log(logger());
  abi().call(abi::slot::Network_unmarkOutput, native(), tensor);
  if (abi().call(abi::slot::Tensor_isNetworkOutput, tensor))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot unmark the output '", name, "'"));
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_network_create(pynn_trt_builder* builder, pynn_trt_network** network,
                                pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(network, "network");
    result = new pynn_trt_network{std::make_shared<Network>(shared(builder, "builder"))};
  });
}

void pynn_trt_network_destroy(pynn_trt_network* network) { delete network; }

int32_t pynn_trt_network_count(const pynn_trt_network* network, int32_t* inputs, int32_t* outputs,
                               int32_t* layers, pynn_trt_error** error) {
  return guard(error, [&] {
    const Network& object = self(network, "network");
    out(inputs, "inputs") = object.input_count();
    out(outputs, "outputs") = object.output_count();
    out(layers, "layers") = object.layer_count();
  });
}

int32_t pynn_trt_network_describe_input(const pynn_trt_network* network, int32_t index,
                                        pynn_trt_tensor_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").describe_input(index, info); });
}

int32_t pynn_trt_network_describe_output(const pynn_trt_network* network, int32_t index,
                                         pynn_trt_tensor_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").describe_output(index, info); });
}

int32_t pynn_trt_network_describe_layer(const pynn_trt_network* network, int32_t index,
                                        pynn_trt_layer_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").describe_layer(index, info); });
}

int32_t pynn_trt_network_describe_layer_input(const pynn_trt_network* network, int32_t layer, int32_t index,
                                              pynn_trt_tensor_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").describe_layer_input(layer, index, info); });
}

int32_t pynn_trt_network_describe_layer_output(const pynn_trt_network* network, int32_t layer, int32_t index,
                                               pynn_trt_tensor_info* info, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").describe_layer_output(layer, index, info); });
}

int32_t pynn_trt_network_mark_output(pynn_trt_network* network, const char* tensor, pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").mark_output(tensor); });
}

int32_t pynn_trt_network_unmark_output(pynn_trt_network* network, const char* tensor,
                                       pynn_trt_error** error) {
  return guard(error, [&] { self(network, "network").unmark_output(tensor); });
}
}
