// getenv for one library: TensorRT for RTX, when float32 is to be computed in float32.
//
// It reads NVIDIA_TF32_OVERRIDE once, while it is loaded, and goes by that alone on some GPUs (its TF32 flag
// changed nothing on compute capability 9.0). This file becomes a shared library that needs
// `libpynn_trt_target.so`; where that name leads to TensorRT and this library is opened with RTLD_DEEPBIND,
// the loader resolves TensorRT's getenv here. The environment of the process stays as it is, and nobody else
// sees a difference. See pynn/native/tf32.py.

#include <cstring>

extern "C" {

extern char** environ;

__attribute__((visibility("default"))) char* getenv(const char* name) {
  static char off[] = "0";
  const std::size_t length = std::strlen(name);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
    if (std::strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
  return std::strcmp(name, "NVIDIA_TF32_OVERRIDE") == 0 ? off : nullptr;
}
}
