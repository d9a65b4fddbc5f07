#include "shared_object.h"

#include <dlfcn.h>

namespace pynn {

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

}  // namespace pynn
