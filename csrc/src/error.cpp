#include "error.h"

#include <new>

namespace pynn {
namespace {

constexpr const char* kStatusNames[] = {
    "OK",
    "INVALID_ARGUMENT",
    "OUT_OF_MEMORY",
    "LIBRARY_NOT_FOUND",
    "LIBRARY_INVALID",
    "VERSION_UNSUPPORTED",
    "ABI_MISMATCH",
    "PARSER_UNAVAILABLE",
    "PARSE_FAILED",
    "BUILD_FAILED",
    "CANCELLED",
    "PLAN_INVALID",
    "DEVICE_UNSUPPORTED",
    "CUDA_FAILED",
    "EXECUTION_FAILED",
    "NOT_SUPPORTED",
    "DEVICE_OUT_OF_MEMORY",
    "INTERNAL",
};
static_assert(sizeof(kStatusNames) / sizeof(*kStatusNames) == PYNN_TRT_INTERNAL + 1);

// There when no other error object can be allocated; its texts fit in the string object itself.
pynn_trt_error out_of_memory{PYNN_TRT_OUT_OF_MEMORY, "out of memory", "", "", "", -1};

int32_t publish(pynn_trt_error** error, pynn_trt_error&& detail) noexcept {
  int32_t status = detail.status;
  if (error != nullptr) {
    auto* object = new (std::nothrow) pynn_trt_error(std::move(detail));
    *error = object != nullptr ? object : &out_of_memory;
  }
  return status;
}

int32_t publish(pynn_trt_error** error, const char* text) {
  pynn_trt_error detail;
  detail.message = std::string("unexpected C++ exception: ") + text;
  return publish(error, std::move(detail));
}

int32_t translate(pynn_trt_error** error) {
  try {
    throw;
  } catch (Failure& failure) {
    return publish(error, std::move(failure.detail));
  } catch (const std::bad_alloc&) {
    if (error != nullptr) *error = &out_of_memory;
    return PYNN_TRT_OUT_OF_MEMORY;
  } catch (const std::exception& exception) {
    return publish(error, exception.what());
  } catch (...) {
    return publish(error, "of unknown type");
  }
}

}  // namespace

int32_t report(pynn_trt_error** error) noexcept {
  try {
    return translate(error);
  } catch (...) {
    if (error != nullptr) *error = &out_of_memory;
    return PYNN_TRT_OUT_OF_MEMORY;
  }
}

}  // namespace pynn

extern "C" {

uint32_t pynn_trt_abi_version(void) { return PYNN_TRT_ABI_VERSION; }

const char* pynn_trt_status_name(int32_t status) {
  return status >= 0 && status <= PYNN_TRT_INTERNAL ? pynn::kStatusNames[status] : "UNKNOWN";
}

void pynn_trt_error_destroy(pynn_trt_error* error) {
  if (error != &pynn::out_of_memory) delete error;
}

int32_t pynn_trt_error_status(const pynn_trt_error* error) { return error ? error->status : PYNN_TRT_OK; }
const char* pynn_trt_error_message(const pynn_trt_error* error) {
  return error ? error->message.c_str() : "";
}
const char* pynn_trt_error_log(const pynn_trt_error* error) { return error ? error->log.c_str() : ""; }
const char* pynn_trt_error_node_name(const pynn_trt_error* error) {
  return error ? error->node_name.c_str() : "";
}
const char* pynn_trt_error_node_operator(const pynn_trt_error* error) {
  return error ? error->node_operator.c_str() : "";
}
int32_t pynn_trt_error_node_index(const pynn_trt_error* error) { return error ? error->node_index : -1; }
}
