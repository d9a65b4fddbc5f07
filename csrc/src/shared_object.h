// dlopen, and its Windows counterpart's place.
#pragma once

#include <string>

namespace pynn {

// Never closed: TensorRT registers thread-local and exit-time destructors and keeps pointers to loggers, so
// that its code must stay mapped until the process ends.
class SharedObject {
 public:
  SharedObject() = default;
  // On failure empty, with the loader's text in *reason.
  static SharedObject open(const char* path, std::string* reason);

  explicit operator bool() const { return handle_ != nullptr; }
  void* find(const char* symbol) const;
  template <class Function>
  Function* find(const char* symbol) const {
    return reinterpret_cast<Function*>(find(symbol));
  }
  static std::string path_of(const void* address);

 private:
  void* handle_ = nullptr;
};

}  // namespace pynn
