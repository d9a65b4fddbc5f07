// Failures inside, status and error object outside, and the one guard between them.
#pragma once

#include <exception>
#include <sstream>
#include <string>

#include "../include/pynn_trt.h"

struct pynn_trt_error {
  int32_t status = PYNN_TRT_INTERNAL;
  std::string message;
  std::string log;
  std::string node_name;
  std::string node_operator;
  int32_t node_index = -1;
};

namespace pynn {

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

class Failure : public std::exception {
 public:
  Failure(int32_t status, std::string message) {
    detail.status = status;
    detail.message = std::move(message);
  }
  const char* what() const noexcept override { return detail.message.c_str(); }

  pynn_trt_error detail;
};

// For a catch (...) block: turns the exception in flight into a status and, if wanted, an error object.
int32_t report(pynn_trt_error** error) noexcept;

// Nothing throws across: the body of every exported function and of every callback runs in here.
template <class Body>
int32_t guard(pynn_trt_error** error, Body&& body) noexcept {
  try {
    body();
    return PYNN_TRT_OK;
  } catch (...) {
    return report(error);
  }
}

}  // namespace pynn
