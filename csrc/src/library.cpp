#include "library.h"

#include "handle.h"

namespace pynn {

Library::Library(const pynn_trt_library_options& options) {
  require_text(options.core_path, "core_path");
#if defined(_WIN32)
  throw Failure(
      PYNN_TRT_NOT_SUPPORTED,
      "TensorRT's binary interface was measured for Linux only; this build of pynn cannot use it on Windows");
#endif
  load_core(options.core_path);
  abi_.emplace(flavor_, major_, minor_, options.force_version != 0);
  if (options.parser_path != nullptr) load_parser(options.parser_path);
}

void Library::load_core(const char* path) {
  std::string reason;
  core_ = SharedObject::open(path, &reason);
  if (!core_)
    throw Failure(PYNN_TRT_LIBRARY_NOT_FOUND, join("cannot load TensorRT from '", path, "': ", reason));

  auto need = [&](const char* symbol) {
    void* address = core_.find(symbol);
    if (address == nullptr)
      throw Failure(PYNN_TRT_LIBRARY_INVALID, join("'", path, "' is no TensorRT library: it lacks ", symbol));
    return address;
  };
  auto* version = reinterpret_cast<Version*>(need("getInferLibVersion"));
  create_builder_ = reinterpret_cast<Factory*>(need("createInferBuilder_INTERNAL"));
  create_runtime_ = reinterpret_cast<Factory*>(need("createInferRuntime_INTERNAL"));
  create_refitter_ = core_.find<ParserFactory>("createInferRefitter_INTERNAL");
  path_ = SharedObject::path_of(reinterpret_cast<void*>(version));

  // Up to TensorRT 9 major*1000 + minor*100 + patch, then major*10000. TensorRT for RTX began at 1 with the
  // latter, which leaves it the numbers from 10000 to 99999; no exported symbol tells the two products apart
  // for certain.
  version_ = version();
  int32_t unit = version_ < 10000 ? 1000 : 10000;
  flavor_ = unit == 10000 && version_ < 100000 ? abi::Flavor::Rtx : abi::Flavor::TensorRT;
  major_ = version_ / unit;
  minor_ = version_ % unit / 100;
  patch_ = version_ % 100;
  if (auto* build = core_.find<Version>("getInferLibBuildVersion")) build_ = build();
}

void Library::load_parser(const char* path) {
  parser_ = SharedObject::open(path, &parser_error_);
  if (!parser_) return;
  auto* version = parser_.find<Version>("getNvOnnxParserVersion");
  create_parser_ = parser_.find<ParserFactory>("createNvOnnxParser_INTERNAL");
  create_parser_refitter_ = parser_.find<ParserFactory>("createNvOnnxParserRefitter_INTERNAL");
  if (version == nullptr || create_parser_ == nullptr) {
    create_parser_ = nullptr;
    parser_error_ = join("'", path, "' is no TensorRT ONNX parser: it lacks ",
                         version ? "createNvOnnxParser_INTERNAL" : "getNvOnnxParserVersion");
    return;
  }
  parser_version_ = version();
}

void* Library::create_parser(void* network, void* logger) const {
  return create_with_parser(create_parser_, "the ONNX parser", network, logger);
}

void* Library::create_parser_refitter(void* refitter, void* logger) const {
  return create_with_parser(create_parser_refitter_, "the ONNX parser's refitter", refitter, logger);
}

void* Library::create_with_parser(ParserFactory* factory, const char* what, void* object,
                                  void* logger) const {
  if (create_parser_ == nullptr)
    throw Failure(PYNN_TRT_PARSER_UNAVAILABLE, join(abi_->name(), " was opened without an ONNX parser",
                                                    parser_error_.empty() ? "" : ": ", parser_error_));
  if (factory == nullptr) throw Failure(PYNN_TRT_NOT_SUPPORTED, join(abi_->name(), " lacks ", what));
  return factory(object, logger, parser_version_);
}

void* Library::create_refitter(void* engine, void* logger) const {
  if (create_refitter_ == nullptr)
    throw Failure(PYNN_TRT_NOT_SUPPORTED, join(abi_->name(), " cannot refit engines"));
  return create_refitter_(engine, logger, version_);
}

void Library::describe(pynn_trt_library_info* info) const {
  pynn_trt_library_info value{};
  value.flavor = static_cast<int32_t>(flavor_);
  value.major = major_;
  value.minor = minor_;
  value.patch = patch_;
  value.build = build_;
  value.parser_version = parser_version_;
  value.forced = abi_->forced();
  value.generation = abi_->letter();
  value.path = path_.c_str();
  value.parser_error = parser_error_.c_str();
  write_struct(info, value, "info");
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_library_open(const pynn_trt_library_options* options, pynn_trt_library** library,
                              pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(library, "library");
    auto opened = std::make_shared<Library>(read_struct(options, "options"));
    result = new pynn_trt_library{std::move(opened)};
  });
}

void pynn_trt_library_destroy(pynn_trt_library* library) { delete library; }

int32_t pynn_trt_library_describe(const pynn_trt_library* library, pynn_trt_library_info* info,
                                  pynn_trt_error** error) {
  return guard(error, [&] { self(library, "library").describe(info); });
}

const char* pynn_trt_library_known_versions(void) {
  static std::string text;
  static const int32_t status = guard(nullptr, [] { text = abi::Abi::known_versions(); });
  return status == PYNN_TRT_OK ? text.c_str() : "";
}
}
