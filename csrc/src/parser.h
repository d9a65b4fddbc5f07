// nvonnxparser::IParser.
#pragma once

#include "network.h"

struct pynn_trt_parser_error_info;

namespace pynn {

// The error of the parser, or of its refitter, as the caller gets it.
void read_error(const abi::Abi& abi, const abi::ParserError* error, pynn_trt_parser_error_info* info);
// The failure of a call after which there are `count` such errors.
Failure parser_failure(const abi::Abi& abi, const LogScope& log, int32_t status, const std::string& what,
                       int32_t count, const abi::ParserError* first);

class Parser {
 public:
  explicit Parser(std::shared_ptr<Network> network);

  void set_flag(int32_t flag, bool on);
  bool get_flag(int32_t flag) const;
  void parse(const void* model, uint64_t size, const char* path);
  void load_model(const void* model, uint64_t size, const char* path);
  void load_initializer(const char* name, const void* data, uint64_t size);
  void parse_loaded();
  bool supports_model(const void* model, uint64_t size, const char* path, int64_t* subgraphs);
  const int64_t* subgraph(int64_t index, bool* supported, int64_t* count) const;
  bool supports_operator(const char* op_type) const;
  int32_t error_count() const;
  void describe_error(int32_t index, pynn_trt_parser_error_info* info) const;

 private:
  const abi::Abi& abi() const { return network_->abi(); }
  const abi::Parser* native() const { return native_.get(); }
  // What the next call reports must be its own.
  void start(const void* model, uint64_t size);
  // A second parse into a network fails without saying why.
  void require_empty_network() const;
  // TensorRT takes anything for a model whose unknown parts it skips.
  void require_content() const;
  Failure failure(const LogScope& log, const std::string& what) const;

  std::shared_ptr<Network> network_;
  std::shared_ptr<abi::Parser> native_;
  bool loaded_ = false;
};

}  // namespace pynn
