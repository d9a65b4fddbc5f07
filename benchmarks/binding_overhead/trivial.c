/* What the binding is measured against: the signature of pynn_trt_runner_run, and almost nothing inside. */
#include <stdint.h>

#if defined(_WIN32)
#define API __declspec(dllexport)
#else
#define API __attribute__((visibility("default")))
#endif

typedef struct runner runner;
typedef struct error error;

static volatile uint64_t calls;

API int32_t trivial_run(runner *self, const void *const *inputs, void *const *outputs, error **problem) {
  (void)self;
  (void)problem;
  calls += (inputs[0] != 0) + (outputs[0] != 0);
  return 0;
}

API uint64_t trivial_calls(void) { return calls; }
