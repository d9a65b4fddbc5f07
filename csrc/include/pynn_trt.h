/* pynn_trt: TensorRT and TensorRT for RTX behind a plain C ABI.
 *
 * Conventions (every function below keeps them):
 *  1. pynn_trt_<noun>_<verb>; the handle first, then inputs, outputs, and `pynn_trt_error **error` last.
 *  2. Handles are opaque. create/open/... and destroy come in pairs; destroy takes NULL and cannot fail.
 *  3. The return value is the status, 0 is success. Numbers are stable. The error object is detail: pass NULL to
 *     do without. On success *error is left untouched. Out-handles are set to NULL on failure.
 *  4. Nothing throws across. What TensorRT logged (warning or worse) during the failing call is in the error.
 *  5. A child keeps its parents alive inside the shim: handles may be destroyed in any order.
 *  6. Strings are UTF-8. `const char *` results live as long as the handle they were asked of, unless said otherwise.
 *     Bytes in, bytes out: the shim opens no file but shared libraries.
 *  7. Structs start with struct_size (set by the caller to sizeof). Integers have fixed width. A shape is
 *     (const int64_t *dims, int32_t rank), at most 8 dimensions; -1 is a dynamic dimension.
 *  8. pynn_trt_abi_version() is this interface's version; TensorRT's version is asked of the library found and
 *     selects one of four measured ABI generations.
 *  9. Log lines and progress are collected and polled: no callback ever enters the caller's language.
 * 10. Threads: library, logger, progress, runtime, engine and blob may be used from many threads at once; builder, network,
 *     config, profile, parser, context, runner and refitter belong to one thread at a time.
 */
#ifndef PYNN_TRT_H
#define PYNN_TRT_H

#include <stdint.h>

#if defined(_WIN32)
#define PYNN_TRT_API __declspec(dllexport)
#else
#define PYNN_TRT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* cffi reads everything between the two marks below, with PYNN_TRT_API removed. */
/* PYNN_TRT_CDEF_BEGIN */

enum {
  PYNN_TRT_ABI_VERSION = 1,
  PYNN_TRT_MAX_RANK = 8,
};

/* ------------------------------------------------------------------ status and error */

typedef enum pynn_trt_status {
  PYNN_TRT_OK = 0,
  PYNN_TRT_INVALID_ARGUMENT = 1,    /* the caller's mistake: NULL, unknown name, rank too large */
  PYNN_TRT_OUT_OF_MEMORY = 2,       /* host memory */
  PYNN_TRT_LIBRARY_NOT_FOUND = 3,   /* dlopen failed */
  PYNN_TRT_LIBRARY_INVALID = 4,     /* opened, but the entry points are missing */
  PYNN_TRT_VERSION_UNSUPPORTED = 5, /* outside the measured versions and not forced */
  PYNN_TRT_ABI_MISMATCH = 6,        /* the self-test after a create failed */
  PYNN_TRT_PARSER_UNAVAILABLE = 7,  /* library without its ONNX parser */
  PYNN_TRT_PARSE_FAILED = 8,        /* not ONNX, or an operator is refused */
  PYNN_TRT_BUILD_FAILED = 9,
  PYNN_TRT_CANCELLED = 10,
  PYNN_TRT_PLAN_INVALID = 11,       /* truncated, damaged, of another library or version */
  PYNN_TRT_DEVICE_UNSUPPORTED = 12, /* no GPU, or this library refuses this GPU */
  PYNN_TRT_CUDA_FAILED = 13,
  PYNN_TRT_EXECUTION_FAILED = 14,
  PYNN_TRT_NOT_SUPPORTED = 15,      /* this TensorRT version has no such feature */
  PYNN_TRT_DEVICE_OUT_OF_MEMORY = 16,
  PYNN_TRT_INTERNAL = 17,           /* a C++ exception nobody expected, or TensorRT answered NULL without a word */
} pynn_trt_status;

typedef struct pynn_trt_error pynn_trt_error;

PYNN_TRT_API uint32_t pynn_trt_abi_version(void);
PYNN_TRT_API const char *pynn_trt_status_name(int32_t status); /* "PARSE_FAILED"; "UNKNOWN" for others */

PYNN_TRT_API void pynn_trt_error_destroy(pynn_trt_error *error);
PYNN_TRT_API int32_t pynn_trt_error_status(const pynn_trt_error *error);
PYNN_TRT_API const char *pynn_trt_error_message(const pynn_trt_error *error); /* what, where, why: one text */
PYNN_TRT_API const char *pynn_trt_error_log(const pynn_trt_error *error);     /* TensorRT's lines of this call, or "" */
PYNN_TRT_API const char *pynn_trt_error_node_name(const pynn_trt_error *error);     /* parser errors, else "" */
PYNN_TRT_API const char *pynn_trt_error_node_operator(const pynn_trt_error *error); /* parser errors, else "" */
PYNN_TRT_API int32_t pynn_trt_error_node_index(const pynn_trt_error *error);        /* parser errors, else -1 */

/* ------------------------------------------------------------------ library */

typedef struct pynn_trt_library pynn_trt_library;

typedef enum pynn_trt_flavor {
  PYNN_TRT_FLAVOR_TENSORRT = 0,
  PYNN_TRT_FLAVOR_RTX = 1,
} pynn_trt_flavor;

typedef struct pynn_trt_library_options {
  uint32_t struct_size;
  int32_t force_version;   /* 1: use the nearest generation for a version outside the table */
  const char *core_path;   /* path or soname for dlopen: libtensorrt_rtx.so.1, libnvinfer.so.10, ... */
  const char *parser_path; /* path or soname of the ONNX parser; NULL: none */
} pynn_trt_library_options;

typedef struct pynn_trt_library_info {
  uint32_t struct_size;
  int32_t flavor; /* pynn_trt_flavor */
  int32_t major;
  int32_t minor;
  int32_t patch;
  int32_t build;
  int32_t parser_version; /* 0: no parser */
  int32_t forced;         /* 1: the version is outside the table */
  char generation;        /* 'A' RTX 1.3-1.4, 'B' RTX 1.5-1.7, 'C' TensorRT 10, 'D' TensorRT 11 */
  const char *path;       /* of the loaded main library, as the loader knows it */
  const char *parser_error; /* why there is no parser, "" if there is one or none was asked for */
} pynn_trt_library_info;

PYNN_TRT_API int32_t pynn_trt_library_open(const pynn_trt_library_options *options, pynn_trt_library **library,
                                           pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_library_destroy(pynn_trt_library *library);
PYNN_TRT_API int32_t pynn_trt_library_describe(const pynn_trt_library *library, pynn_trt_library_info *info,
                                               pynn_trt_error **error);
/* The table of versions this build knows, as one line of text: "TensorRT-RTX 1.3-1.7, TensorRT 10.0-10.16, ...". */
PYNN_TRT_API const char *pynn_trt_library_known_versions(void);

/* ------------------------------------------------------------------ logger */

typedef struct pynn_trt_logger pynn_trt_logger;

typedef struct pynn_trt_log_line {
  uint32_t struct_size;
  int32_t severity; /* 0 internal error, 1 error, 2 warning, 3 info, 4 verbose */
  uint64_t sequence;
  const char *text; /* valid until the next poll of this logger or its destruction */
} pynn_trt_log_line;

/* Keeps the last `capacity` lines of severity <= max_severity for polling. */
PYNN_TRT_API int32_t pynn_trt_logger_create(pynn_trt_library *library, int32_t max_severity, int32_t capacity,
                                            pynn_trt_logger **logger, pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_logger_destroy(pynn_trt_logger *logger);
/* Takes the oldest kept line; *available is 0 when there is none. */
PYNN_TRT_API int32_t pynn_trt_logger_poll(pynn_trt_logger *logger, pynn_trt_log_line *line, int32_t *available,
                                          pynn_trt_error **error);

/* ------------------------------------------------------------------ blob: bytes owned by the library */

typedef struct pynn_trt_blob pynn_trt_blob;

PYNN_TRT_API void pynn_trt_blob_destroy(pynn_trt_blob *blob);
PYNN_TRT_API const void *pynn_trt_blob_data(const pynn_trt_blob *blob);
PYNN_TRT_API uint64_t pynn_trt_blob_size(const pynn_trt_blob *blob);

/* ------------------------------------------------------------------ tensor and layer descriptions */

/* The same numbers in every TensorRT generation (nvinfer1::DataType). */
typedef enum pynn_trt_data_type {
  PYNN_TRT_FLOAT32 = 0,
  PYNN_TRT_FLOAT16 = 1,
  PYNN_TRT_INT8 = 2,
  PYNN_TRT_INT32 = 3,
  PYNN_TRT_BOOL = 4,
  PYNN_TRT_UINT8 = 5,
  PYNN_TRT_FLOAT8E4M3 = 6,
  PYNN_TRT_BFLOAT16 = 7,
  PYNN_TRT_INT64 = 8,
  PYNN_TRT_INT4 = 9,
  PYNN_TRT_FLOAT4E2M1 = 10,
} pynn_trt_data_type;

typedef struct pynn_trt_tensor_info {
  uint32_t struct_size;
  int32_t data_type; /* pynn_trt_data_type */
  int32_t rank;      /* -1: unknown rank */
  int32_t is_input;
  int32_t is_output;
  int32_t is_shape_tensor;  /* network: isShapeTensor; engine: isShapeInferenceIO */
  int32_t on_host;          /* engine: TensorLocation kHOST */
  int32_t bytes_per_component; /* engine only, else 0 */
  int64_t dims[8];
  const char *name;
} pynn_trt_tensor_info;

typedef struct pynn_trt_layer_info {
  uint32_t struct_size;
  int32_t type; /* nvinfer1::LayerType of this generation */
  int32_t input_count;
  int32_t output_count;
  const char *name;
} pynn_trt_layer_info;

/* ------------------------------------------------------------------ builder, network */

typedef struct pynn_trt_builder pynn_trt_builder;
typedef struct pynn_trt_network pynn_trt_network;
typedef struct pynn_trt_config pynn_trt_config;
typedef struct pynn_trt_profile pynn_trt_profile;
typedef struct pynn_trt_progress pynn_trt_progress;

PYNN_TRT_API int32_t pynn_trt_builder_create(pynn_trt_logger *logger, pynn_trt_builder **builder,
                                             pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_builder_destroy(pynn_trt_builder *builder);
PYNN_TRT_API int32_t pynn_trt_builder_set_max_threads(pynn_trt_builder *builder, int32_t threads,
                                                      pynn_trt_error **error);
/* Slow. The plan is bytes of the library's own format. CANCELLED when the progress object was cancelled. */
PYNN_TRT_API int32_t pynn_trt_builder_build(pynn_trt_builder *builder, pynn_trt_network *network,
                                            pynn_trt_config *config, pynn_trt_blob **plan, pynn_trt_error **error);

/* Always strongly typed where the library knows it (RTX and TensorRT 11 know nothing else). */
PYNN_TRT_API int32_t pynn_trt_network_create(pynn_trt_builder *builder, pynn_trt_network **network,
                                             pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_network_destroy(pynn_trt_network *network);
PYNN_TRT_API int32_t pynn_trt_network_count(const pynn_trt_network *network, int32_t *inputs, int32_t *outputs,
                                            int32_t *layers, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_network_describe_input(const pynn_trt_network *network, int32_t index,
                                                     pynn_trt_tensor_info *info, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_network_describe_output(const pynn_trt_network *network, int32_t index,
                                                      pynn_trt_tensor_info *info, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_network_describe_layer(const pynn_trt_network *network, int32_t index,
                                                     pynn_trt_layer_info *info, pynn_trt_error **error);
/* An absent optional input: OK, with name "", data_type -1, rank -1. */
PYNN_TRT_API int32_t pynn_trt_network_describe_layer_input(const pynn_trt_network *network, int32_t layer,
                                                           int32_t index, pynn_trt_tensor_info *info,
                                                           pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_network_describe_layer_output(const pynn_trt_network *network, int32_t layer,
                                                            int32_t index, pynn_trt_tensor_info *info,
                                                            pynn_trt_error **error);
/* By tensor name: any layer's output. */
PYNN_TRT_API int32_t pynn_trt_network_mark_output(pynn_trt_network *network, const char *tensor,
                                                  pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_network_unmark_output(pynn_trt_network *network, const char *tensor,
                                                    pynn_trt_error **error);

/* ------------------------------------------------------------------ config, profile */

/* pynn's own stable numbers; the shim maps them to the generation's numbers, NOT_SUPPORTED where absent. */
typedef enum pynn_trt_builder_flag {
  PYNN_TRT_FLAG_DEBUG = 0,
  PYNN_TRT_FLAG_GPU_FALLBACK = 1,
  PYNN_TRT_FLAG_REFIT = 2,
  PYNN_TRT_FLAG_DISABLE_TIMING_CACHE = 3,
  PYNN_TRT_FLAG_TF32 = 4,
  PYNN_TRT_FLAG_SPARSE_WEIGHTS = 5,
  PYNN_TRT_FLAG_SAFETY_SCOPE = 6,
  PYNN_TRT_FLAG_DIRECT_IO = 7,
  PYNN_TRT_FLAG_VERSION_COMPATIBLE = 8,
  PYNN_TRT_FLAG_EXCLUDE_LEAN_RUNTIME = 9,
  PYNN_TRT_FLAG_ERROR_ON_TIMING_CACHE_MISS = 10,
  PYNN_TRT_FLAG_DISABLE_COMPILATION_CACHE = 11,
  PYNN_TRT_FLAG_STRIP_PLAN = 12,
  PYNN_TRT_FLAG_REFIT_IDENTICAL = 13,
  PYNN_TRT_FLAG_WEIGHT_STREAMING = 14,
  PYNN_TRT_FLAG_REFIT_INDIVIDUAL = 15,
  PYNN_TRT_FLAG_STRICT_NANS = 16,
  PYNN_TRT_FLAG_MONITOR_MEMORY = 17,
  PYNN_TRT_FLAG_EDITABLE_TIMING_CACHE = 18,
  PYNN_TRT_FLAG_DISTRIBUTIVE_INDEPENDENCE = 19,
  PYNN_TRT_FLAG_REQUIRE_USER_ALLOCATION = 20,
} pynn_trt_builder_flag;

/* nvinfer1::MemoryPoolType, the same in every generation. */
typedef enum pynn_trt_memory_pool {
  PYNN_TRT_POOL_WORKSPACE = 0,
  PYNN_TRT_POOL_DLA_MANAGED_SRAM = 1,
  PYNN_TRT_POOL_DLA_LOCAL_DRAM = 2,
  PYNN_TRT_POOL_DLA_GLOBAL_DRAM = 3,
  PYNN_TRT_POOL_TACTIC_DRAM = 4,
  PYNN_TRT_POOL_TACTIC_SHARED_MEMORY = 5,
} pynn_trt_memory_pool;

PYNN_TRT_API int32_t pynn_trt_config_create(pynn_trt_builder *builder, pynn_trt_config **config,
                                            pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_config_destroy(pynn_trt_config *config);
PYNN_TRT_API int32_t pynn_trt_config_set_flag(pynn_trt_config *config, int32_t flag, int32_t on,
                                              pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_get_flag(const pynn_trt_config *config, int32_t flag, int32_t *on,
                                              pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_set_memory_pool(pynn_trt_config *config, int32_t pool, uint64_t bytes,
                                                     pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_get_memory_pool(const pynn_trt_config *config, int32_t pool, uint64_t *bytes,
                                                     pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_set_optimization_level(pynn_trt_config *config, int32_t level,
                                                            pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_get_optimization_level(const pynn_trt_config *config, int32_t *level,
                                                            pynn_trt_error **error);
/* 0 layer names only, 1 none, 2 detailed (nvinfer1::ProfilingVerbosity). */
PYNN_TRT_API int32_t pynn_trt_config_set_profiling_verbosity(pynn_trt_config *config, int32_t verbosity,
                                                             pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_get_profiling_verbosity(const pynn_trt_config *config, int32_t *verbosity,
                                                             pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_set_max_aux_streams(pynn_trt_config *config, int32_t streams,
                                                         pynn_trt_error **error);
/* RTX only. Each is major*10+minor (86 for 8.6); 0 means the GPU of this machine. */
PYNN_TRT_API int32_t pynn_trt_config_set_compute_capabilities(pynn_trt_config *config, const int32_t *capabilities,
                                                              int32_t count, pynn_trt_error **error);
/* data NULL, size 0: an empty cache. The bytes are copied. Damaged ones, or those of another GPU, give an empty cache
 * and a warning in the log. */
PYNN_TRT_API int32_t pynn_trt_config_set_timing_cache(pynn_trt_config *config, const void *data, uint64_t size,
                                                      pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_get_timing_cache(const pynn_trt_config *config, pynn_trt_blob **cache,
                                                      pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_add_profile(pynn_trt_config *config, pynn_trt_profile *profile, int32_t *index,
                                                 pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_config_set_progress(pynn_trt_config *config, pynn_trt_progress *progress,
                                                  pynn_trt_error **error);

typedef enum pynn_trt_profile_selector {
  PYNN_TRT_PROFILE_MIN = 0,
  PYNN_TRT_PROFILE_OPT = 1,
  PYNN_TRT_PROFILE_MAX = 2,
} pynn_trt_profile_selector;

PYNN_TRT_API int32_t pynn_trt_profile_create(pynn_trt_builder *builder, pynn_trt_profile **profile,
                                             pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_profile_destroy(pynn_trt_profile *profile);
PYNN_TRT_API int32_t pynn_trt_profile_set_dimensions(pynn_trt_profile *profile, const char *input, int32_t selector,
                                                     const int64_t *dims, int32_t rank, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_profile_set_shape_values(pynn_trt_profile *profile, const char *input,
                                                       int32_t selector, const int64_t *values, int32_t count,
                                                       pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_profile_is_valid(const pynn_trt_profile *profile, int32_t *valid,
                                               pynn_trt_error **error);

/* ------------------------------------------------------------------ progress of a build */

typedef struct pynn_trt_progress_event {
  uint32_t struct_size;
  int32_t kind;  /* 0 phase started, 1 step complete, 2 phase finished */
  int32_t step;  /* for 1 */
  int32_t steps; /* for 0: how many the phase has */
  char phase[160];
  char parent[160]; /* for 0: the enclosing phase, "" at the top */
} pynn_trt_progress_event;

PYNN_TRT_API int32_t pynn_trt_progress_create(pynn_trt_progress **progress, pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_progress_destroy(pynn_trt_progress *progress);
PYNN_TRT_API void pynn_trt_progress_cancel(pynn_trt_progress *progress); /* from any thread */
/* Takes up to `capacity` of the oldest events; *dropped counts those lost since the last poll (bounded queue). */
PYNN_TRT_API int32_t pynn_trt_progress_poll(pynn_trt_progress *progress, pynn_trt_progress_event *events,
                                            int32_t capacity, int32_t *count, int32_t *dropped,
                                            pynn_trt_error **error);

/* ------------------------------------------------------------------ parser */

typedef struct pynn_trt_parser pynn_trt_parser;

typedef struct pynn_trt_parser_error_info {
  uint32_t struct_size;
  int32_t code; /* nvonnxparser::ErrorCode */
  int32_t line;
  int32_t node; /* index in the model, -1 if none */
  const char *description;
  const char *file;
  const char *function;
  const char *node_name;
  const char *node_operator;
} pynn_trt_parser_error_info;

PYNN_TRT_API int32_t pynn_trt_parser_create(pynn_trt_network *network, pynn_trt_parser **parser,
                                            pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_parser_destroy(pynn_trt_parser *parser);
/* nvonnxparser::OnnxParserFlag numbers, except ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA, which crashes the
 * library and is refused here. */
PYNN_TRT_API int32_t pynn_trt_parser_set_flag(pynn_trt_parser *parser, int32_t flag, int32_t on,
                                              pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_get_flag(const pynn_trt_parser *parser, int32_t flag, int32_t *on,
                                              pynn_trt_error **error);
/* path: where the model came from, for external data; NULL if none. The network must be empty: one model each. */
PYNN_TRT_API int32_t pynn_trt_parser_parse(pynn_trt_parser *parser, const void *model, uint64_t size,
                                           const char *path, pynn_trt_error **error);
/* The same in three steps, with initializers that stay in the caller's memory (not copied): the model bytes name them as
 * external data. Memory must stay valid until the network is destroyed. NOT_SUPPORTED before TensorRT 10.13. */
PYNN_TRT_API int32_t pynn_trt_parser_load_model(pynn_trt_parser *parser, const void *model, uint64_t size,
                                                const char *path, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_load_initializer(pynn_trt_parser *parser, const char *name, const void *data,
                                                      uint64_t size, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_parse_loaded(pynn_trt_parser *parser, pynn_trt_error **error);
/* *supported: the whole model. Then the partition is asked by index. Fills the network as parse does: ask with a network
 * made for the question. */
PYNN_TRT_API int32_t pynn_trt_parser_supports_model(pynn_trt_parser *parser, const void *model, uint64_t size,
                                                    const char *path, int32_t *supported, int64_t *subgraphs,
                                                    pynn_trt_error **error);
/* nodes: indices in the model, owned by the parser until the next supports_model. */
PYNN_TRT_API int32_t pynn_trt_parser_describe_subgraph(pynn_trt_parser *parser, int64_t index, int32_t *supported,
                                                       const int64_t **nodes, int64_t *count,
                                                       pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_supports_operator(pynn_trt_parser *parser, const char *op_type,
                                                       int32_t *supported, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_error_count(const pynn_trt_parser *parser, int32_t *count,
                                                 pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_parser_describe_error(const pynn_trt_parser *parser, int32_t index,
                                                    pynn_trt_parser_error_info *info, pynn_trt_error **error);

/* ------------------------------------------------------------------ runtime, engine */

typedef struct pynn_trt_runtime pynn_trt_runtime;
typedef struct pynn_trt_engine pynn_trt_engine;
typedef struct pynn_trt_context pynn_trt_context;

PYNN_TRT_API int32_t pynn_trt_runtime_create(pynn_trt_logger *logger, pynn_trt_runtime **runtime,
                                             pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_runtime_destroy(pynn_trt_runtime *runtime);
/* Slow. Needs a GPU and its context current on the calling thread. */
PYNN_TRT_API int32_t pynn_trt_runtime_deserialize(pynn_trt_runtime *runtime, const void *plan, uint64_t size,
                                                  pynn_trt_engine **engine, pynn_trt_error **error);
/* RTX: 0 valid, 1 suboptimal, 2 invalid (nvinfer1::EngineValidity), with diagnostics bits; else NOT_SUPPORTED. */
PYNN_TRT_API int32_t pynn_trt_runtime_check_plan(pynn_trt_runtime *runtime, const void *plan, uint64_t size,
                                                 int32_t *validity, uint64_t *diagnostics, pynn_trt_error **error);

typedef struct pynn_trt_engine_info {
  uint32_t struct_size;
  int32_t io_count;
  int32_t profile_count;
  int32_t layer_count;
  int32_t refittable;
  int32_t aux_streams;
  int64_t device_memory;      /* bytes a context needs, -1: not known to this version */
  int64_t streamable_weights; /* bytes, -1: not known */
  const char *name;
} pynn_trt_engine_info;

PYNN_TRT_API void pynn_trt_engine_destroy(pynn_trt_engine *engine);
PYNN_TRT_API int32_t pynn_trt_engine_describe(const pynn_trt_engine *engine, pynn_trt_engine_info *info,
                                              pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_engine_describe_io(const pynn_trt_engine *engine, int32_t index,
                                                 pynn_trt_tensor_info *info, pynn_trt_error **error);
/* dims has room for 8. */
PYNN_TRT_API int32_t pynn_trt_engine_profile_shape(const pynn_trt_engine *engine, const char *input,
                                                   int32_t profile, int32_t selector, int64_t *dims, int32_t *rank,
                                                   pynn_trt_error **error);
/* format 0: one line per layer, 1: JSON. UTF-8 bytes without a terminator. context may be NULL. */
PYNN_TRT_API int32_t pynn_trt_engine_inspect(const pynn_trt_engine *engine, const pynn_trt_context *context,
                                             int32_t format, pynn_trt_blob **text, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_engine_serialize(const pynn_trt_engine *engine, pynn_trt_blob **plan,
                                               pynn_trt_error **error);

/* RTX: the kernels of several runtime caches as one; damaged ones and those of another GPU or version add nothing. */
PYNN_TRT_API int32_t pynn_trt_engine_merge_runtime_caches(pynn_trt_engine *engine, const void *const *caches,
                                                          const uint64_t *sizes, int32_t count,
                                                          pynn_trt_blob **merged, pynn_trt_error **error);

/* ------------------------------------------------------------------ weights of an engine */

/* All in bytes. An engine built without WEIGHT_STREAMING has streamable 0. */
typedef struct pynn_trt_weight_streaming_info {
  uint32_t struct_size;
  uint32_t reserved;
  int64_t streamable; /* weights that may be in host memory */
  int64_t budget;     /* how much of these is in device memory now */
  int64_t automatic;  /* what the library would choose for this GPU as it is */
  int64_t scratch;    /* device memory that a context needs on top of it */
} pynn_trt_weight_streaming_info;

/* Only while there is no context. From `streamable` bytes on nothing is streamed. NOT_SUPPORTED before TensorRT 10.1. */
PYNN_TRT_API int32_t pynn_trt_engine_set_weight_budget(pynn_trt_engine *engine, int64_t bytes,
                                                       pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_engine_describe_weight_streaming(const pynn_trt_engine *engine,
                                                               pynn_trt_weight_streaming_info *info,
                                                               pynn_trt_error **error);
/* Bytes that a context of this profile needs for activations, at most. NOT_SUPPORTED before TensorRT 10.1. */
PYNN_TRT_API int32_t pynn_trt_engine_device_memory(const pynn_trt_engine *engine, int32_t profile, int64_t *bytes,
                                                   pynn_trt_error **error);

/* Gives an engine built with REFIT new weights: name them (set) or take them of an ONNX model (set_from_model, or
 * load_model, load_initializer and set_from_loaded), then refit. Memory given must stay valid until refit returns. A GPU
 * context must be current on the calling thread; no context of the engine may run meanwhile. */
typedef struct pynn_trt_refitter pynn_trt_refitter;

typedef struct pynn_trt_weight_info {
  uint32_t struct_size;
  int32_t data_type; /* pynn_trt_data_type */
  int64_t count;
} pynn_trt_weight_info;

PYNN_TRT_API int32_t pynn_trt_refitter_create(pynn_trt_engine *engine, pynn_trt_refitter **refitter,
                                              pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_refitter_destroy(pynn_trt_refitter *refitter);
/* Names of all refittable weights, or of those still missing before refit. Owned by the refitter until the next list. */
PYNN_TRT_API int32_t pynn_trt_refitter_list(pynn_trt_refitter *refitter, int32_t missing, const char *const **names,
                                            int32_t *count, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_refitter_describe(const pynn_trt_refitter *refitter, const char *name,
                                                pynn_trt_weight_info *info, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_refitter_set(pynn_trt_refitter *refitter, const char *name, int32_t data_type,
                                           const void *values, int64_t count, pynn_trt_error **error);
/* path: where the model came from, for external data; NULL if none. */
PYNN_TRT_API int32_t pynn_trt_refitter_set_from_model(pynn_trt_refitter *refitter, const void *model, uint64_t size,
                                                      const char *path, pynn_trt_error **error);
/* As for the parser: initializers named as external data in the model come by address. NOT_SUPPORTED before 10.13. */
PYNN_TRT_API int32_t pynn_trt_refitter_load_model(pynn_trt_refitter *refitter, const void *model, uint64_t size,
                                                  const char *path, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_refitter_load_initializer(pynn_trt_refitter *refitter, const char *name,
                                                        const void *data, uint64_t size, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_refitter_set_from_loaded(pynn_trt_refitter *refitter, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_refitter_refit(pynn_trt_refitter *refitter, pynn_trt_error **error);

/* ------------------------------------------------------------------ execution context */

typedef struct pynn_trt_context_options {
  uint32_t struct_size;
  int32_t allocation_strategy;   /* 0 static, 1 on profile change, 2 user managed; -1 library default */
  int32_t cuda_graph_strategy;   /* RTX: 0 disabled, 1 whole graph; -1 library default */
  int32_t kernel_specialization; /* RTX: 0 lazy, 1 eager, 2 none; -1 library default */
  const void *runtime_cache;     /* RTX: bytes of an earlier context's cache, NULL for none; damaged ones are ignored */
  uint64_t runtime_cache_size;
  int32_t use_runtime_cache;     /* RTX: 1 attaches a cache even if no bytes are given, so that it can be saved */
} pynn_trt_context_options;

/* Slow (just-in-time compilation). options may be NULL. */
PYNN_TRT_API int32_t pynn_trt_context_create(pynn_trt_engine *engine, const pynn_trt_context_options *options,
                                             pynn_trt_context **context, pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_context_destroy(pynn_trt_context *context);
PYNN_TRT_API int32_t pynn_trt_context_runtime_cache(pynn_trt_context *context, pynn_trt_blob **cache,
                                                    pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_set_profile(pynn_trt_context *context, int32_t profile, uint64_t stream,
                                                  pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_set_input_shape(pynn_trt_context *context, const char *input,
                                                      const int64_t *dims, int32_t rank, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_tensor_shape(const pynn_trt_context *context, const char *tensor,
                                                   int64_t *dims, int32_t *rank, pynn_trt_error **error);
/* OK when every output shape is known; else INVALID_ARGUMENT whose message names the inputs that lack a shape. */
PYNN_TRT_API int32_t pynn_trt_context_infer_shapes(pynn_trt_context *context, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_max_output_size(const pynn_trt_context *context, const char *output,
                                                      int64_t *bytes, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_set_address(pynn_trt_context *context, const char *tensor, uint64_t address,
                                                  pynn_trt_error **error);
/* For allocation_strategy 2: bytes needed for the input shapes now set, and memory of at least that size, aligned to 256,
 * which stays the caller's and must outlive the context's last run. Like shapes, given before a runner is made. An engine
 * built with REQUIRE_USER_ALLOCATION runs no other way, and only such a one calls its stream capturable. */
PYNN_TRT_API int32_t pynn_trt_context_device_memory_size(pynn_trt_context *context, int64_t *bytes,
                                                         pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_set_device_memory(pynn_trt_context *context, uint64_t address, int64_t size,
                                                        pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_enqueue(pynn_trt_context *context, uint64_t stream, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_context_is_stream_capturable(const pynn_trt_context *context, uint64_t stream,
                                                           int32_t *capturable, pynn_trt_error **error);

/* ------------------------------------------------------------------ runner: the hot path, arrays to arrays in one call
 *
 * A runner binds a context whose input shapes are set to buffers that the caller allocated (pinned host staging and device
 * memory, or mapped pinned memory that is both) and to a stream. run() copies the arrays into staging, sends the copies
 * and the network (as a CUDA graph if asked for and possible) to the stream, waits, and copies the outputs out. Arrays in
 * pinned memory are not staged. launch() sends a run from and to the memory bound, and returns.
 * The driver (libcuda.so.1) is dlopened here and nowhere else. */

typedef struct pynn_trt_runner pynn_trt_runner;

typedef struct pynn_trt_binding {
  uint32_t struct_size;
  int32_t is_output;
  const char *name;
  void *staging;   /* pinned host memory of `bytes`, aligned to 64; NULL for device memory of the caller's (mapped = 1) */
  uint64_t device; /* CUdeviceptr; of the mapped staging memory itself when no copy is wanted */
  uint64_t bytes;
  int32_t mapped;  /* 1: device is staging seen by the GPU, or memory of the GPU that the caller fills: no copies */
} pynn_trt_binding;

typedef struct pynn_trt_runner_options {
  uint32_t struct_size;
  int32_t use_cuda_graph; /* 1: capture on the first run; falls back to plain enqueue and says so in describe */
  int32_t wait;           /* 0: spin, 1: sleep, 2: spin for two milliseconds, then sleep */
  uint64_t stream;        /* CUstream */
  uint64_t cuda_context;  /* CUcontext made current on the calling thread for the call */
} pynn_trt_runner_options;

typedef struct pynn_trt_runner_info {
  uint32_t struct_size;
  int32_t cuda_graph;            /* 1: runs are graph launches */
  const char *cuda_graph_reason; /* why not, "" if they are */
  uint64_t runs;
} pynn_trt_runner_info;

PYNN_TRT_API int32_t pynn_trt_runner_create(pynn_trt_context *context, const pynn_trt_runner_options *options,
                                            const pynn_trt_binding *bindings, int32_t count,
                                            pynn_trt_runner **runner, pynn_trt_error **error);
PYNN_TRT_API void pynn_trt_runner_destroy(pynn_trt_runner *runner);
/* inputs[i], outputs[j]: contiguous host memory of the i-th input / j-th output binding in the order given at create.
 * A NULL entry means: the caller reads or writes the staging memory itself. */
PYNN_TRT_API int32_t pynn_trt_runner_run(pynn_trt_runner *runner, const void *const *inputs, void *const *outputs,
                                         pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_runner_launch(pynn_trt_runner *runner, pynn_trt_error **error);
PYNN_TRT_API int32_t pynn_trt_runner_describe(const pynn_trt_runner *runner, pynn_trt_runner_info *info,
                                              pynn_trt_error **error);

/* PYNN_TRT_CDEF_END */

#ifdef __cplusplus
}
#endif
#endif /* PYNN_TRT_H */
