// IBuilderConfig and what must outlive it.
#pragma once

#include <vector>

#include "builder.h"
#include "profile.h"
#include "progress.h"

namespace pynn {

class Config {
 public:
  explicit Config(std::shared_ptr<Builder> builder);

  Builder& builder() const { return *builder_; }
  abi::BuilderConfig* native() const { return native_.get(); }
  bool stopped() const { return progress_ != nullptr && progress_->stopped(); }

  void set_flag(int32_t flag, bool on);
  bool get_flag(int32_t flag) const;
  void set_memory_pool(int32_t pool, uint64_t bytes);
  uint64_t get_memory_pool(int32_t pool) const;
  void set_optimization_level(int32_t level);
  int32_t get_optimization_level() const;
  void set_profiling_verbosity(int32_t verbosity);
  int32_t get_profiling_verbosity() const;
  void set_max_aux_streams(int32_t streams);
  void set_compute_capabilities(const std::vector<int32_t>& capabilities);
  void set_timing_cache(const void* data, uint64_t size);
  std::shared_ptr<Blob> get_timing_cache() const;
  int32_t add_profile(std::shared_ptr<Profile> profile);
  void set_progress(std::shared_ptr<Progress> progress);

 private:
  const abi::Abi& abi() const { return builder_->abi(); }
  LogScope log() const { return LogScope(builder_->logger()); }
  bool store_capabilities(const std::vector<int32_t>& capabilities);

  std::shared_ptr<Builder> builder_;
  std::shared_ptr<Progress> progress_;
  std::vector<std::shared_ptr<Profile>> profiles_;
  abi::Owned<abi::TimingCache> timing_cache_;
  abi::Owned<abi::BuilderConfig> native_;
};

}  // namespace pynn
