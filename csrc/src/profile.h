// IOptimizationProfile, which its builder owns.
#pragma once

#include "builder.h"

namespace pynn {

class Profile {
 public:
  explicit Profile(std::shared_ptr<Builder> builder);

  const Builder& builder() const { return *builder_; }
  const abi::OptimizationProfile* native() const { return native_; }

  void set_dimensions(const char* input, int32_t selector, const abi::Dims& dims);
  void set_shape_values(const char* input, int32_t selector, const int64_t* values, int32_t count);
  bool is_valid() const;

 private:
  std::shared_ptr<Builder> builder_;
  abi::OptimizationProfile* native_;
};

}  // namespace pynn
