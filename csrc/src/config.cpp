#include "config.h"

#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

constexpr abi::Enumerator kFlags[] = {
#define ENUMERATOR(enum_, name, a, b, c, d) ENUMERATOR_##enum_(name)
#define ENUMERATOR_NetworkFlag(name)
#define ENUMERATOR_ParserFlag(name)
#define ENUMERATOR_BuilderFlag(name) abi::number::BuilderFlag_##name,
#include "../abi/enums.inc"
#undef ENUMERATOR
};
constexpr int32_t kFlagCount = sizeof(kFlags) / sizeof(*kFlags);
static_assert(kFlagCount == PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION + 1);

const abi::Enumerator& find_flag(int32_t flag) {
  require(flag >= 0 && flag < kFlagCount, "flag is ", flag, ", allowed are 0 to ", kFlagCount - 1);
  return kFlags[flag];
}

void require_pool(int32_t pool) {
  require(pool >= PYNN_TRT_POOL_WORKSPACE && pool <= PYNN_TRT_POOL_TACTIC_SHARED_MEMORY, "pool is ", pool,
          ", allowed are 0 to ", PYNN_TRT_POOL_TACTIC_SHARED_MEMORY);
}

constexpr int32_t kCurrentCapability = 1;

}  // namespace

Config::Config(std::shared_ptr<Builder> builder) : builder_(std::move(builder)) {
  LogScope log = this->log();
  auto* raw = abi().call(abi::slot::Builder_createBuilderConfig, builder_->native());
  native_ = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot create the builder configuration");
}

void Config::set_flag(int32_t flag, bool on) {
  const abi::Enumerator& enumerator = find_flag(flag);
  int32_t number = abi().number(enumerator);
  LogScope log = this->log();
  abi().call(on ? abi::slot::BuilderConfig_setFlag : abi::slot::BuilderConfig_clearFlag, native(), number);
  if (abi().call(abi::slot::BuilderConfig_getFlag, native(), number) != on)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot ", on ? "set " : "clear ", enumerator.name));
}

bool Config::get_flag(int32_t flag) const {
  return abi().call(abi::slot::BuilderConfig_getFlag, native(), abi().number(find_flag(flag)));
}

void Config::set_memory_pool(int32_t pool, uint64_t bytes) {
  require_pool(pool);
  LogScope log = this->log();
  abi().call(abi::slot::BuilderConfig_setMemoryPoolLimit, native(), pool, bytes);
  if (log.has_errors() && get_memory_pool(pool) != bytes)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT,
                      join("cannot set the limit of memory pool ", pool, " to ", bytes));
}

uint64_t Config::get_memory_pool(int32_t pool) const {
  require_pool(pool);
  return abi().call(abi::slot::BuilderConfig_getMemoryPoolLimit, native(), pool);
}

void Config::set_optimization_level(int32_t level) {
  LogScope log = this->log();
  int32_t previous = get_optimization_level();
  abi().call(abi::slot::BuilderConfig_setBuilderOptimizationLevel, native(), level);
  int32_t kept = get_optimization_level();
  if (kept == level) return;
  // TensorRT takes its highest level for a higher one.
  abi().call(abi::slot::BuilderConfig_setBuilderOptimizationLevel, native(), previous);
  require(kept > level || log.has_errors(), "optimization level is ", level, ", the highest is ", kept);
  throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot set the optimization level to ", level));
}

int32_t Config::get_optimization_level() const {
  return abi().call(abi::slot::BuilderConfig_getBuilderOptimizationLevel, native());
}

void Config::set_profiling_verbosity(int32_t verbosity) {
  require(verbosity >= 0 && verbosity <= 2, "verbosity is ", verbosity, ", allowed are 0 to 2");
  LogScope log = this->log();
  abi().call(abi::slot::BuilderConfig_setProfilingVerbosity, native(), verbosity);
  if (get_profiling_verbosity() != verbosity)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot set the profiling verbosity to ", verbosity));
}

int32_t Config::get_profiling_verbosity() const {
  return abi().call(abi::slot::BuilderConfig_getProfilingVerbosity, native());
}

void Config::set_max_aux_streams(int32_t streams) {
  require(streams >= -1, "streams is ", streams, ", allowed are -1 (TensorRT's choice) and more");
  LogScope log = this->log();
  abi().call(abi::slot::BuilderConfig_setMaxAuxStreams, native(), streams);
  if (abi().call(abi::slot::BuilderConfig_getMaxAuxStreams, native()) != streams)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT,
                      join("cannot set the number of auxiliary streams to ", streams));
}

bool Config::store_capabilities(const std::vector<int32_t>& capabilities) {
  int32_t count = static_cast<int32_t>(capabilities.size());
  if (!abi().call(abi::slot::BuilderConfig_setNbComputeCapabilities, native(), count)) return false;
  for (int32_t i = 0; i < count; ++i)
    if (!abi().call(abi::slot::BuilderConfig_setComputeCapability, native(), capabilities[size_t(i)], i))
      return false;
  return true;
}

void Config::set_compute_capabilities(const std::vector<int32_t>& capabilities) {
  std::vector<int32_t> previous(
      static_cast<size_t>(abi().call(abi::slot::BuilderConfig_getNbComputeCapabilities, native())));
  for (size_t i = 0; i < previous.size(); ++i)
    previous[i] =
        abi().call(abi::slot::BuilderConfig_getComputeCapability, native(), static_cast<int32_t>(i));
  LogScope log = this->log();
  if (store_capabilities(capabilities)) return;
  std::string list;
  for (int32_t capability : capabilities) list += join(list.empty() ? "" : ", ", capability);
  Failure failure =
      log.failure(PYNN_TRT_INVALID_ARGUMENT, join("cannot build for compute capabilities ", list));
  store_capabilities(previous);
  throw failure;
}

void Config::set_timing_cache(const void* data, uint64_t size) {
  require_bytes(data, size, "data");
  LogScope log = this->log();
  auto* raw = abi().call(abi::slot::BuilderConfig_createTimingCache, native(), data, size);
  auto cache = adopt(log, raw, PYNN_TRT_PLAN_INVALID, "cannot read the timing cache");
  if (!abi().call(abi::slot::BuilderConfig_setTimingCache, native(), cache.get(), false))
    throw log.failure(PYNN_TRT_PLAN_INVALID, "cannot use the timing cache");
  timing_cache_ = std::move(cache);
}

std::shared_ptr<Blob> Config::get_timing_cache() const {
  LogScope log = this->log();
  const abi::TimingCache* cache = abi().call(abi::slot::BuilderConfig_getTimingCache, native());
  require(abi::is_object(cache), "the configuration has no timing cache");
  auto* raw = abi().call(abi::slot::TimingCache_serialize, cache);
  auto memory = adopt(log, raw, PYNN_TRT_INTERNAL, "cannot serialize the timing cache");
  return std::make_shared<Blob>(std::shared_ptr<Logger>(builder_, &builder_->logger()), std::move(memory));
}

int32_t Config::add_profile(std::shared_ptr<Profile> profile) {
  require(&profile->builder() == builder_.get(), "profile belongs to another builder");
  profiles_.reserve(profiles_.size() + 1);
  LogScope log = this->log();
  int32_t index = abi().call(abi::slot::BuilderConfig_addOptimizationProfile, native(), profile->native());
  if (index < 0) throw log.failure(PYNN_TRT_INVALID_ARGUMENT, "cannot add the optimization profile");
  profiles_.push_back(std::move(profile));
  return index;
}

void Config::set_progress(std::shared_ptr<Progress> progress) {
  void* monitor = progress ? progress->native() : nullptr;
  abi().call(abi::slot::BuilderConfig_setProgressMonitor, native(), monitor);
  progress_ = std::move(progress);
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_config_create(pynn_trt_builder* builder, pynn_trt_config** config, pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(config, "config");
    result = new pynn_trt_config{std::make_shared<Config>(shared(builder, "builder"))};
  });
}

void pynn_trt_config_destroy(pynn_trt_config* config) { delete config; }

int32_t pynn_trt_config_set_flag(pynn_trt_config* config, int32_t flag, int32_t on, pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_flag(flag, on != 0); });
}

int32_t pynn_trt_config_get_flag(const pynn_trt_config* config, int32_t flag, int32_t* on,
                                 pynn_trt_error** error) {
  return guard(error, [&] {
    const Config& object = self(config, "config");
    out(on, "on") = object.get_flag(flag);
  });
}

int32_t pynn_trt_config_set_memory_pool(pynn_trt_config* config, int32_t pool, uint64_t bytes,
                                        pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_memory_pool(pool, bytes); });
}

int32_t pynn_trt_config_get_memory_pool(const pynn_trt_config* config, int32_t pool, uint64_t* bytes,
                                        pynn_trt_error** error) {
  return guard(error, [&] {
    const Config& object = self(config, "config");
    out(bytes, "bytes") = object.get_memory_pool(pool);
  });
}

int32_t pynn_trt_config_set_optimization_level(pynn_trt_config* config, int32_t level,
                                               pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_optimization_level(level); });
}

int32_t pynn_trt_config_get_optimization_level(const pynn_trt_config* config, int32_t* level,
                                               pynn_trt_error** error) {
  return guard(error, [&] {
    const Config& object = self(config, "config");
    out(level, "level") = object.get_optimization_level();
  });
}

int32_t pynn_trt_config_set_profiling_verbosity(pynn_trt_config* config, int32_t verbosity,
                                                pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_profiling_verbosity(verbosity); });
}

int32_t pynn_trt_config_get_profiling_verbosity(const pynn_trt_config* config, int32_t* verbosity,
                                                pynn_trt_error** error) {
  return guard(error, [&] {
    const Config& object = self(config, "config");
    out(verbosity, "verbosity") = object.get_profiling_verbosity();
  });
}

int32_t pynn_trt_config_set_max_aux_streams(pynn_trt_config* config, int32_t streams,
                                            pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_max_aux_streams(streams); });
}

int32_t pynn_trt_config_set_compute_capabilities(pynn_trt_config* config, const int32_t* capabilities,
                                                 int32_t count, pynn_trt_error** error) {
  return guard(error, [&] {
    Config& object = self(config, "config");
    require(count >= 1 && count <= 64, "count is ", count, ", allowed are 1 to 64");
    require(capabilities != nullptr, "capabilities is NULL");
    std::vector<int32_t> numbers;
    for (int32_t i = 0; i < count; ++i) {
      require(capabilities[i] == 0 || capabilities[i] >= 10, "capabilities[", i, "] is ", capabilities[i],
              ", expected major*10+minor or 0");
      numbers.push_back(capabilities[i] == 0 ? kCurrentCapability : capabilities[i]);
    }
    object.set_compute_capabilities(numbers);
  });
}

int32_t pynn_trt_config_set_timing_cache(pynn_trt_config* config, const void* data, uint64_t size,
                                         pynn_trt_error** error) {
  return guard(error, [&] { self(config, "config").set_timing_cache(data, size); });
}

int32_t pynn_trt_config_get_timing_cache(const pynn_trt_config* config, pynn_trt_blob** cache,
                                         pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(cache, "cache");
    result = new pynn_trt_blob{self(config, "config").get_timing_cache()};
  });
}

int32_t pynn_trt_config_add_profile(pynn_trt_config* config, pynn_trt_profile* profile, int32_t* index,
                                    pynn_trt_error** error) {
  return guard(error, [&] {
    Config& object = self(config, "config");
    int32_t& added = out(index, "index");
    added = object.add_profile(shared(profile, "profile"));
  });
}

int32_t pynn_trt_config_set_progress(pynn_trt_config* config, pynn_trt_progress* progress,
                                     pynn_trt_error** error) {
  return guard(error, [&] {
    self(config, "config").set_progress(progress ? progress->object : std::shared_ptr<Progress>());
  });
}
}
