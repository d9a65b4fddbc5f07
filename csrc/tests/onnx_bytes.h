// Just enough protobuf to write small ONNX models by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace onnx {

class Message {
 public:
  Message& number(int field, uint64_t value) {
    varint(static_cast<uint64_t>(field) << 3);
    varint(value);
    return *this;
  }
  Message& bytes(int field, const std::string& value) {
    varint(static_cast<uint64_t>(field) << 3 | 2);
    varint(value.size());
    text_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return bytes(field, value.text_); }
  const std::string& text() const { return text_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

constexpr int kFloat = 1;

// A dimension of -1 is dynamic.
inline Message value_info(const std::string& name, const std::vector<int64_t>& dims, int type = kFloat) {
  Message shape;
  for (int64_t dim : dims) {
    Message one;
    if (dim >= 0)
      one.number(1, static_cast<uint64_t>(dim));
    else
      one.bytes(2, "n");
    shape.message(1, one);
  }
  Message tensor = Message().number(1, static_cast<uint64_t>(type)).message(2, shape);
  return Message().bytes(1, name).message(2, Message().message(1, tensor));
}

inline Message node(const std::string& op, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs, const std::string& name) {
  Message made;
  for (const std::string& input : inputs) made.bytes(1, input);
  for (const std::string& output : outputs) made.bytes(2, output);
  return made.bytes(3, name).bytes(4, op);
}

inline Message tensor(const std::string& name, const std::vector<int64_t>& dims,
                      const std::vector<float>& values) {
  Message made;
  for (int64_t dim : dims) made.number(1, static_cast<uint64_t>(dim));
  made.number(2, kFloat).bytes(8, name);
  return made.bytes(9,
                    std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
}

// Declared as external data: the bytes come through load_initializer.
inline Message external_tensor(const std::string& name, const std::vector<int64_t>& dims, uint64_t bytes) {
  auto entry = [](const std::string& key, const std::string& value) {
    return Message().bytes(1, key).bytes(2, value);
  };
  Message made;
  for (int64_t dim : dims) made.number(1, static_cast<uint64_t>(dim));
  made.number(2, kFloat).bytes(8, name);
  made.message(13, entry("location", name + ".bin")).message(13, entry("offset", "0"));
  return made.message(13, entry("length", std::to_string(bytes))).number(14, 1);
}

struct Graph {
  std::vector<Message> nodes, initializers, inputs, outputs;
};

inline std::string model(const Graph& graph) {
  Message body;
  for (const Message& one : graph.nodes) body.message(1, one);
  body.bytes(2, "test");
  for (const Message& one : graph.initializers) body.message(5, one);
  for (const Message& one : graph.inputs) body.message(11, one);
  for (const Message& one : graph.outputs) body.message(12, one);
  Message opset = Message().bytes(1, "").number(2, 17);
  return Message().number(1, 8).message(7, body).message(8, opset).text();
}

inline std::string relu(const std::vector<int64_t>& shape = {2, 3}) {
  return model(
      {{node("Relu", {"x"}, {"y"}, "relu_1")}, {}, {value_info("x", shape)}, {value_info("y", shape)}});
}

// y = x * w + b
inline std::string linear(int64_t rows = 2) {
  std::vector<float> weights(12, 0.5f), bias(4, 1.0f);
  return model({{node("MatMul", {"x", "w"}, {"t"}, "matmul_1"), node("Add", {"t", "b"}, {"y"}, "add_1")},
                {tensor("w", {3, 4}, weights), tensor("b", {4}, bias)},
                {value_info("x", {rows, 3})},
                {value_info("y", {rows, 4})}});
}

}  // namespace onnx
