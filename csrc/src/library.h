// One loaded TensorRT and the binary interface that fits it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "../abi/abi.h"
#include "shared_object.h"

struct pynn_trt_library_options;
struct pynn_trt_library_info;

namespace pynn {

class Library {
 public:
  explicit Library(const pynn_trt_library_options& options);

  const abi::Abi& abi() const { return *abi_; }
  const std::string& path() const { return path_; }
  void describe(pynn_trt_library_info* info) const;

  // The results are unchecked: NULL, or 0x228, on failure.
  void* create_builder(void* logger) const { return create_builder_(logger, version_); }
  void* create_runtime(void* logger) const { return create_runtime_(logger, version_); }
  void* create_refitter(void* engine, void* logger) const;
  // These two throw PARSER_UNAVAILABLE.
  void* create_parser(void* network, void* logger) const;
  void* create_parser_refitter(void* refitter, void* logger) const;

 private:
  using Factory = void*(void*, int32_t);
  using ParserFactory = void*(void*, void*, int32_t);
  using Version = int32_t();

  void load_core(const char* path);
  void load_parser(const char* path);
  void* create_with_parser(ParserFactory* factory, const char* what, void* object, void* logger) const;

  SharedObject core_;
  SharedObject parser_;
  std::optional<abi::Abi> abi_;
  abi::Flavor flavor_ = abi::Flavor::TensorRT;
  int32_t version_ = 0, major_ = 0, minor_ = 0, patch_ = 0, build_ = 0;
  int32_t parser_version_ = 0;
  Factory* create_builder_ = nullptr;
  Factory* create_runtime_ = nullptr;
  ParserFactory* create_refitter_ = nullptr;
  ParserFactory* create_parser_ = nullptr;
  ParserFactory* create_parser_refitter_ = nullptr;
  std::string path_;
  std::string parser_error_;
};

}  // namespace pynn
