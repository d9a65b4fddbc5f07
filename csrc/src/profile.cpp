#include "profile.h"

#include <limits>
#include <vector>

#include "handle.h"
#include "native.h"

namespace pynn {
namespace {

void require_selector(int32_t selector) {
  require(selector >= PYNN_TRT_PROFILE_MIN && selector <= PYNN_TRT_PROFILE_MAX, "selector is ", selector,
          ", allowed are 0 to 2");
}

}  // namespace

Profile::Profile(std::shared_ptr<Builder> builder) : builder_(std::move(builder)) {
  LogScope log(builder_->logger());
  native_ = builder_->abi().call(abi::slot::Builder_createOptimizationProfile, builder_->native());
  if (!abi::is_object(native_))
    throw log.failure(PYNN_TRT_INTERNAL, "cannot create the optimization profile");
}

void Profile::set_dimensions(const char* input, int32_t selector, const abi::Dims& dims) {
  require_text(input, "input");
  require_selector(selector);
  LogScope log(builder_->logger());
  if (!builder_->abi().call(abi::slot::OptimizationProfile_setDimensions, native_, input, selector, &dims))
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT,
                      join("cannot set the profile dimensions of '", input, "' to ", shape_text(dims)));
}

void Profile::set_shape_values(const char* input, int32_t selector, const int64_t* values, int32_t count) {
  require_text(input, "input");
  require_selector(selector);
  require(count >= 1 && values != nullptr, "values is empty");
  const abi::Abi& abi = builder_->abi();
  LogScope log(builder_->logger());
  bool done;
  if (abi.has(abi::slot::OptimizationProfile_setShapeValuesV2)) {
    done = abi.call(abi::slot::OptimizationProfile_setShapeValuesV2, native_, input, selector, values, count);
  } else {
    std::vector<int32_t> narrow(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; ++i) {
      require(values[i] >= std::numeric_limits<int32_t>::min() &&
                  values[i] <= std::numeric_limits<int32_t>::max(),
              "values[", i, "] is ", values[i], ", ", abi.name(), " takes 32 bits only");
      narrow[static_cast<size_t>(i)] = static_cast<int32_t>(values[i]);
    }
    done = abi.call(abi::slot::OptimizationProfile_setShapeValues, native_, input, selector, narrow.data(),
                    count);
  }
  if (!done)
    throw log.failure(PYNN_TRT_INVALID_ARGUMENT,
                      join("cannot set the profile's shape values of '", input, "'"));
}

bool Profile::is_valid() const {
  return builder_->abi().call(abi::slot::OptimizationProfile_isValid, native_);
}

}  // namespace pynn

using namespace pynn;

extern "C" {

int32_t pynn_trt_profile_create(pynn_trt_builder* builder, pynn_trt_profile** profile,
                                pynn_trt_error** error) {
  return guard(error, [&] {
    auto& result = clear(profile, "profile");
    result = new pynn_trt_profile{std::make_shared<Profile>(shared(builder, "builder"))};
  });
}

void pynn_trt_profile_destroy(pynn_trt_profile* profile) { delete profile; }

int32_t pynn_trt_profile_set_dimensions(pynn_trt_profile* profile, const char* input, int32_t selector,
                                        const int64_t* dims, int32_t rank, pynn_trt_error** error) {
  return guard(error,
               [&] { self(profile, "profile").set_dimensions(input, selector, make_dims(dims, rank, 0)); });
}

int32_t pynn_trt_profile_set_shape_values(pynn_trt_profile* profile, const char* input, int32_t selector,
                                          const int64_t* values, int32_t count, pynn_trt_error** error) {
  return guard(error, [&] { self(profile, "profile").set_shape_values(input, selector, values, count); });
}

int32_t pynn_trt_profile_is_valid(const pynn_trt_profile* profile, int32_t* valid, pynn_trt_error** error) {
  return guard(error, [&] {
    const Profile& object = self(profile, "profile");
    out(valid, "valid") = object.is_valid();
  });
}
}
