#include "builder.h"

#include "config.h"
#include "handle.h"
#include "native.h"
#include "network.h"

namespace pynn {

Builder::Builder(std::shared_ptr<Logger> logger) : logger_(std::move(logger)) {
  LogScope log(*logger_);
  auto* raw = static_cast<abi::Builder*>(logger_->library().create_builder(logger_->native()));
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the builder");
  prove(*logger_, native_, abi::slot::Builder_getLogger, logger_->native());
}

void Builder::set_max_threads(int32_t threads) {
  require(threads >= 1, "threads is ", threads, ", at least 1 is needed");
  LogScope log(*logger_);
  if (!abi().call(abi::slot::Builder_setMaxThreads, native(), threads))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot set ", threads, " builder threads"));
}

std::shared_ptr<Blob> Builder::build(const Network& network, const Config& config) {
  require(&network.builder() == this, "network belongs to another builder");
  require(&config.builder() == this, "config belongs to another builder");
  LogScope log(*logger_);
  auto* raw =
      abi().call(abi::slot::Builder_buildSerializedNetwork, native(), network.native(), config.native());
  if (!abi::is_object(raw) && config.stopped())
    throw log.failure(PYNN_TRT_CANCELLED, "the build was cancelled");
  return std::make_shared<Blob>(logger_, adopt(log, raw, PYNN_TRT_BUILD_FAILED, "cannot build the engine"));
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_builder_create(pynn_trt_logger* logger, pynn_trt_builder** builder, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(builder, "builder");
    result = new pynn_trt_builder{std::make_shared<Builder>(shared(logger, "logger"))};
  });
}

void pynn_trt_builder_destroy(pynn_trt_builder* builder) { delete builder; }

int32_t pynn_trt_builder_set_max_threads(pynn_trt_builder* builder, int32_t threads, pynn_trt_error** error) {
  return guard(error, [&] { self(builder, "builder").set_max_threads(threads); });
}

int32_t pynn_trt_builder_build(pynn_trt_builder* builder, pynn_trt_network* network, pynn_trt_config* config,
                               pynn_trt_blob** plan, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(plan, "plan");
    result =
        new pynn_trt_blob{self(builder, "builder").build(self(network, "network"), self(config, "config"))};
  });
}
}
