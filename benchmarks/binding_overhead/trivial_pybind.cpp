// pybind11's way to the same function: addresses in, status out, interpreter lock released.
#include <pybind11/pybind11.h>

#include <cstdint>

extern "C" int32_t trivial_run(struct runner *self, const void *const *inputs, void *const *outputs,
                               struct error **problem);

PYBIND11_MODULE(trivial_pybind, module) {
  module.def(
      "run",
      [](std::uintptr_t runner_, std::uintptr_t inputs, std::uintptr_t outputs) {
        struct error *problem = nullptr;
        return trivial_run(reinterpret_cast<struct runner *>(runner_), reinterpret_cast<const void *const *>(inputs),
                           reinterpret_cast<void *const *>(outputs), &problem);
      },
      pybind11::call_guard<pybind11::gil_scoped_release>());
}
