#include "shared_object.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace pynn {

#if defined(_WIN32)
// LoadLibrary goes here; Library refuses before it comes to this.
SharedObject SharedObject::open(const char* path, std::string* reason) {
  *reason = std::string(path) + ": not implemented for Windows";
  return {};
}
void* SharedObject::find(const char*) const { return nullptr; }
std::string SharedObject::path_of(const void*) { return ""; }
#else
SharedObject SharedObject::open(const char* path, std::string* reason) {
  SharedObject object;
  // Local: TensorRT and TensorRT for RTX export the same names.
  object.handle_ = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (object.handle_ == nullptr) {
    const char* text = dlerror();
    *reason = text != nullptr ? text : path;
  }
  return object;
}

void* SharedObject::find(const char* symbol) const { return handle_ ? dlsym(handle_, symbol) : nullptr; }

std::string SharedObject::path_of(const void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}
#endif

}  // namespace pynn
