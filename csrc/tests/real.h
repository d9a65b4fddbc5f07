// What the tests on a real TensorRT for RTX share.
#pragma once

#include <filesystem>

#include "harness.h"
#include "onnx_bytes.h"

namespace test {

inline std::string core_path, parser_path;
inline thread_local Error error;

struct Opened {
  Library library;
  Logger logger;
  Builder builder;
};

inline void open(Opened* opened, bool with_parser = true) {
  auto options = sized<pynn_trt_library_options>();
  options.core_path = core_path.c_str();
  options.parser_path = with_parser ? parser_path.c_str() : nullptr;
  OK(pynn_trt_library_open(&options, &opened->library, &error));
  OK(pynn_trt_logger_create(opened->library, 3, 1000, &opened->logger, &error));
  OK(pynn_trt_builder_create(opened->logger, &opened->builder, &error));
}

struct Model {
  Network network;
  Parser parser;
  Config config;
};

inline void load(Opened& opened, const std::string& bytes, Model* model) {
  OK(pynn_trt_network_create(opened.builder, &model->network, &error));
  OK(pynn_trt_parser_create(model->network, &model->parser, &error));
  OK(pynn_trt_parser_parse(model->parser, bytes.data(), bytes.size(), nullptr, &error));
  OK(pynn_trt_config_create(opened.builder, &model->config, &error));
  int32_t capabilities[] = {86};
  OK(pynn_trt_config_set_compute_capabilities(model->config, capabilities, 1, &error));
}

inline std::string build(Opened& opened, const std::string& bytes) {
  Model model;
  load(opened, bytes, &model);
  Blob plan;
  OK(pynn_trt_builder_build(opened.builder, model.network, model.config, &plan, &error));
  return {static_cast<const char*>(pynn_trt_blob_data(plan)), pynn_trt_blob_size(plan)};
}

inline int32_t parse(Opened& opened, const std::string& bytes) {
  Network network;
  Parser parser;
  OK(pynn_trt_network_create(opened.builder, &network, &error));
  OK(pynn_trt_parser_create(network, &parser, &error));
  return pynn_trt_parser_parse(parser, bytes.data(), bytes.size(), nullptr, &error);
}

inline bool has_gpu() { return std::filesystem::exists("/dev/nvidiactl"); }

}  // namespace test
