// A GPU that is pretended: one library in place of the CUDA runtime, cuBLAS, cuDNN, cuRAND and NVML, so that ONNX Runtime's
// own CUDA provider loads and runs without a GPU. Memory is memory of the host, kernels compute nothing, times mean nothing;
// placement, control flow, bytes and error texts are the real ones. Written against the documented ABI, without headers.
// Functions that only have to succeed are generated (see __init__.py) into STUBS.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

#define API extern "C" __attribute__((visibility("default")))
typedef void* Handle;
static const size_t MIB = 1048576, CONTEXT = 500 * MIB;
static const int DEVICES = 8;

static std::mutex guard;
static std::map<char*, size_t> device_blocks[DEVICES], pinned_blocks;
static size_t live[DEVICES], peak[DEVICES];
static long others[DEVICES] = {-1, -1, -1, -1, -1, -1, -1, -1};  // MiB that other programs hold; -1: as the environment says
static thread_local int current = 0, capturing = 0;
static thread_local bool computing = false;  // something was launched since this thread last waited for a stream
static std::atomic<long> next_handle{0x1000};

// What the tests count and break, by name.
enum Counter { MALLOC, LAUNCH, UP, DOWN, BYTES_UP, BYTES_DOWN, PINNED_UP, PINNED_DOWN, PLANS, EXECUTIONS, REPLAYS, COUNTERS };
static std::atomic<long> counters[COUNTERS];
// An allocation, a copy or launch, the building of a cuDNN plan, a cuDNN call, a copy of a box from the device, the
// locking of pages: fails with `code` behind `after` good ones.
enum Kind { ALLOCATING, RUNNING, PLANNING, EXECUTING, COPYING_DOWN, PINNING, KINDS };
static std::atomic<int> fail_code[KINDS];
static std::atomic<long> fail_after[KINDS], fail_times[KINDS];

static long number(const char* name, long otherwise) { const char* text = getenv(name); return text ? atol(text) : otherwise; }
// "81559,8192" is a list for the devices in CUDA's order; the last number holds for those behind it.
static long number_of(const char* name, int device, long otherwise) {
  const char* text = getenv(name);
  if (!text) return otherwise;
  for (int i = 0; i < device && strchr(text, ','); i++) text = strchr(text, ',') + 1;
  return atol(text);
}
static int hardware() { return number("FAKE_DEVICES", 1); }
static int visible() {  // CUDA shows those of CUDA_VISIBLE_DEVICES before the first that it does not know
  const char* text = getenv("CUDA_VISIBLE_DEVICES");
  if (!text) return hardware();
  int count = 0;
  for (; *text; count++) {
    bool known = !strncmp(text, "GPU-", 4) || !strncmp(text, "MIG-", 4) || (*text >= '0' && *text <= '9' && atoi(text) < hardware());
    if (!known) break;
    if (!(text = strchr(text, ','))) return count + 1;
    text++;
  }
  return count;
}
static int shown() { return number("FAKE_DRIVER", 13000) < 13000 ? 0 : visible(); }
static int physical(int device) {  // of a device that is named by number or by GPU-<number>
  const char* text = getenv("CUDA_VISIBLE_DEVICES");
  for (int i = 0; text && i < device; i++) if ((text = strchr(text, ','))) text++;
  if (!text || !*text) return device;
  return atoi(text + (strncmp(text, "GPU-", 4) && strncmp(text, "MIG-", 4) ? 0 : 4));
}
static size_t total(int device) { return number_of("FAKE_TOTAL_MB", physical(device), 81559) * MIB; }
static size_t used(int device) {
  long other = others[device] >= 0 ? others[device] : number_of("FAKE_OTHERS_MB", physical(device), 500);
  return live[device] + other * MIB + CONTEXT + (counters[LAUNCH] ? number("FAKE_LAZY_MB", 0) * MIB : 0);
}
static int failure(Kind kind) {
  int code = fail_code[kind];
  if (!code || fail_after[kind]-- > 0) return 0;
  if (fail_times[kind] > 0 && --fail_times[kind] == 0) fail_code[kind] = 0;
  return code;
}
API void fake_fail(int kind, int code, long after, long times) { fail_after[kind] = after; fail_times[kind] = times; fail_code[kind] = code; }
API long fake_count(int counter) { return counters[counter]; }
API void fake_reset() { for (auto& counter : counters) if (&counter != &counters[LAUNCH]) counter = 0; }
API void fake_others(int device, long mib) { others[device] = mib; }
API size_t fake_live(int device) { std::lock_guard<std::mutex> lock(guard); return live[device]; }
API size_t fake_peak(int device, int reset) {
  std::lock_guard<std::mutex> lock(guard);
  size_t most = peak[device];
  if (reset) peak[device] = live[device];
  return most;
}

// Memory
static int allocate(void** p, size_t n) {
  std::lock_guard<std::mutex> lock(guard);
  *p = nullptr;
  if (!n) return 0;
  if (int code = failure(ALLOCATING)) return code;
  size_t unit = n < MIB ? 512 : 2 * MIB, rounded = (n + unit - 1) / unit * unit;
  if (used(current) + rounded > total(current)) return 2;
  void* block = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return 2;
  device_blocks[current][(char*)block] = rounded;
  live[current] += rounded;
  if (live[current] > peak[current]) peak[current] = live[current];
  counters[MALLOC]++;
  *p = block;
  return 0;
}
static int release(void* p) {
  std::lock_guard<std::mutex> lock(guard);
  for (int device = 0; device < DEVICES; device++) {
    auto found = device_blocks[device].find((char*)p);
    if (found == device_blocks[device].end()) continue;
    munmap(p, found->second);
    live[device] -= found->second;
    device_blocks[device].erase(found);
  }
  return 0;
}
static bool holds(std::map<char*, size_t>& blocks, const void* p) {
  auto found = blocks.upper_bound((char*)p);
  return found != blocks.begin() && (--found, (char*)p < found->first + found->second);
}
static int device_of(const void* p) {
  std::lock_guard<std::mutex> lock(guard);
  for (int device = 0; device < DEVICES; device++) if (holds(device_blocks[device], p)) return device;
  return -1;
}
static bool pinned(const void* p) { std::lock_guard<std::mutex> lock(guard); return holds(pinned_blocks, p); }
static int pin(void** p, size_t n) {
  if (int code = failure(PINNING)) return code;
  n = n ? n : 1;
  *p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::lock_guard<std::mutex> lock(guard);
  pinned_blocks[(char*)*p] = n;
  return 0;
}
static int copy(void* to, const void* from, size_t n) {
  if (int code = failure(RUNNING)) return code;
  bool source = device_of(from) >= 0, target = device_of(to) >= 0;
  if (!source && target) { counters[UP]++; counters[BYTES_UP] += n; counters[PINNED_UP] += pinned(from) ? n : 0; }
  if (source && !target) usleep(number("FAKE_CALL_MS", 0) * 1000);  // what a call takes, whatever its size
  if (source && !target) { counters[DOWN]++; counters[BYTES_DOWN] += n; counters[PINNED_DOWN] += pinned(to) ? n : 0; }
  memcpy(to, from, n);
  return 0;
}
API int cudaMalloc(void** p, size_t n) { return allocate(p, n); }
API int cudaMallocFromPoolAsync(void** p, size_t n, Handle, Handle) { return allocate(p, n); }
API int cudaFree(void* p) { return release(p); }
API int cudaFreeAsync(void* p, Handle) { return release(p); }
API int cudaMallocHost(void** p, size_t n) { return pin(p, n); }
API int cudaHostAlloc(void** p, size_t n, unsigned) { return pin(p, n); }
API int cudaFreeHost(void* p) {
  std::lock_guard<std::mutex> lock(guard);
  auto found = pinned_blocks.find((char*)p);
  if (found != pinned_blocks.end()) { munmap(p, found->second); pinned_blocks.erase(found); }
  return 0;
}
API int cudaMemGetInfo(size_t* free, size_t* all) {
  if (int code = fail_code[RUNNING]) if (code != 2) return code;  // a context that is dead stays dead
  std::lock_guard<std::mutex> lock(guard);
  *all = total(current);
  *free = used(current) < *all ? *all - used(current) : 0;
  return 0;
}
API size_t fake_pinned() {
  std::lock_guard<std::mutex> lock(guard);
  size_t all = 0;
  for (auto& block : pinned_blocks) all += block.second;
  return all;
}
API int cudaMemcpy(void* to, const void* from, size_t n, int) { return copy(to, from, n); }
API int cudaMemcpyAsync(void* to, const void* from, size_t n, int, Handle) { return copy(to, from, n); }
struct Copy3D {  // cudaMemcpy3DParms: places are (x in bytes, y, z), pitched memory is (address, pitch, row, rows)
  void* source_array; size_t source_place[3], source[4]; void* target_array; size_t target_place[3], target[4], extent[3]; int kind;
};
API int cudaMemcpy3DAsync(const Copy3D* c, Handle) {
  if (int code = failure(RUNNING)) return code;
  if (int code = failure(COPYING_DOWN)) return code;
  if (computing) return 600;  // cudaErrorNotReady: what is to be copied may not be there yet
  auto place = [](const size_t* memory, const size_t* at, size_t y, size_t z) {
    return (char*)memory[0] + ((z + at[2]) * memory[3] + y + at[1]) * memory[1] + at[0];
  };
  size_t n = c->extent[0] * c->extent[1] * c->extent[2];
  char* first = place(c->target, c->target_place, 0, 0);
  if (c->kind != 2 || device_of(place(c->source, c->source_place, 0, 0)) < 0 || device_of(first) >= 0) return 21;  // an invalid direction
  counters[DOWN]++; counters[BYTES_DOWN] += n; counters[PINNED_DOWN] += pinned(first) ? n : 0;
  for (size_t z = 0; z < c->extent[2]; z++)
    for (size_t y = 0; y < c->extent[1]; y++)
      memcpy(place(c->target, c->target_place, y, z), place(c->source, c->source_place, y, z), c->extent[0]);
  return 0;
}
API int cudaMemcpyFromSymbol(void* to, const void*, size_t n, size_t, int) { memset(to, 0, n); return 0; }
API int cudaPointerGetAttributes(int* out, const void* p) {  // type, device, two pointers, reserved
  memset(out, 0, 88);
  out[0] = device_of(p) >= 0 ? 2 : 0;
  out[1] = device_of(p);
  *(const void**)(out + 2) = p;
  return 0;
}

// Devices
API int cudaGetDeviceCount(int* n) { *n = shown(); return number("FAKE_DRIVER", 13000) < 13000 ? 35 : *n ? 0 : 100; }
API int cudaGetDevice(int* device) { *device = current; return 0; }
API int cudaSetDevice(int device) { if (device < 0 || device >= shown()) return 101; current = device; return 0; }
API int cudaDriverGetVersion(int* version) { *version = number("FAKE_DRIVER", 13000); return 0; }
API int cudaRuntimeGetVersion(int* version) { *version = 13000; return 0; }
API int cudaDeviceSynchronize() { return fail_code[RUNNING]; }
API int cudaDeviceGetPCIBusId(char* out, int n, int device) { snprintf(out, n, "0000:%02X:00.0", 0x10 + physical(device)); return 0; }
API int cudaGetDeviceProperties(char* p, int device) {  // offsets of CUDA 13
  memset(p, 0, 1008);
  snprintf(p, 256, "Pretended GPU %d", physical(device));
  *(size_t*)(p + 288) = total(device);
  *(size_t*)(p + 296) = 49152;  // shared memory a block
  int* values[] = {(int*)(p + 304), (int*)(p + 308), (int*)(p + 320), (int*)(p + 360), (int*)(p + 384), (int*)(p + 604)};
  int numbers[] = {65536, 32, 1024, (int)number("FAKE_MAJOR", 9), 132, 2048};  // registers, warp, threads, major, processors
  for (int i = 0; i < 6; i++) *values[i] = numbers[i];
  int limits[] = {1024, 1024, 64, 2147483647, 65535, 65535};  // of threads and of a grid
  memcpy(p + 324, limits, sizeof limits);
  *(size_t*)(p + 368) = 512;
  *(size_t*)(p + 624) = 233472;
  *(size_t*)(p + 672) = 232448;
  *(int*)(p + 560) = *(int*)(p + 588) = 1;
  return 0;
}
API int cudaDeviceGetAttribute(int* value, int attribute, int) {
  std::map<int, int> known = {{16, 132}, {75, (int)number("FAKE_MAJOR", 9)}, {76, 0}, {1, 1024}, {10, 32}, {8, 49152}, {97, 232448}, {81, 233472}, {39, 2048}};
  *value = known.count(attribute) ? known[attribute] : 1;
  return 0;
}
API const char* cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "a pretended error"; }
API const char* cudaGetErrorName(int) { return "cudaErrorPretended"; }

// Streams, launches, graphs
static int handle(Handle* out) { *out = (Handle)next_handle.fetch_add(16); return 0; }
static int launch() { counters[LAUNCH]++; computing = true; return failure(RUNNING); }
API int cudaStreamSynchronize(Handle) { computing = false; return 0; }
API int cudaStreamCreate(Handle* out) { return handle(out); }
API int cudaStreamCreateWithFlags(Handle* out, unsigned) { return handle(out); }
API int cudaStreamIsCapturing(Handle, int* status) { *status = capturing; return 0; }
API int cudaStreamBeginCapture(Handle, int) { capturing = 1; return 0; }
API int cudaStreamEndCapture(Handle, Handle* out) { capturing = 0; return handle(out); }
API int cudaGraphInstantiate(Handle* out, Handle, unsigned long long) { return handle(out); }
API int cudaGraphLaunch(Handle, Handle) { counters[REPLAYS]++; return 0; }
API int cudaEventCreate(Handle* out) { return handle(out); }
API int cudaEventCreateWithFlags(Handle* out, unsigned) { return handle(out); }
API int cudaEventElapsedTime(float* ms, Handle, Handle) { *ms = 1; return 0; }
API int cudaLaunchHostFunc(Handle, void (*function)(void*), void* argument) { function(argument); return 0; }
API int cudaFuncGetAttributes(char* out, const void*) { memset(out, 0, 144); *(int*)(out + 24) = 1024; *(int*)(out + 32) = *(int*)(out + 36) = 90; return 0; }
API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) { *n = 1; return 0; }
API int cudaLaunchKernel() { return launch(); }
API int cudaLaunchKernelExC() { return launch(); }
API int cudaLaunchCooperativeKernel() { return launch(); }
API int __cudaLaunchKernel() { return launch(); }
API int __cudaGetKernel(Handle* out, const void* function) { *out = (Handle)function; return 0; }
struct Dim3 { unsigned x, y, z; };
API int __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared, Handle* stream) { *grid = *block = Dim3{1, 1, 1}; *shared = 0; *stream = nullptr; return 0; }
API void** __cudaRegisterFatBinary(void*) { static void* slot[4]; return slot; }
API int cudaLibraryLoadData(Handle* out) { return handle(out); }
API int cudaLibraryGetKernel(Handle* out, Handle, const char*) { return handle(out); }
API int cudaMemPoolCreate(Handle* out, const void*) { return handle(out); }
API int cudaMemPoolGetAttribute(Handle, int, unsigned long long* value) { *value = 0; return 0; }
API int cuTensorMapEncodeTiled() { return 0; }
API int cudaGetDriverEntryPointByVersion(const char*, void** out, unsigned, unsigned long long, int* status) { *out = (void*)cuTensorMapEncodeTiled; if (status) *status = 0; return 0; }

// cuBLAS, cuRAND
API int cublasCreate_v2(Handle* out) { return handle(out); }
API int cublasLtCreate(Handle* out) { return handle(out); }
API int cublasLtMatmulDescCreate(Handle* out, int, int) { return handle(out); }
API int cublasLtMatrixLayoutCreate(Handle* out, int, long, long, long) { return handle(out); }
API int cublasLtMatrixTransformDescCreate(Handle* out, int) { return handle(out); }
API int cublasLtMatmulPreferenceCreate(Handle* out) { return handle(out); }
API int cublasLtMatmulAlgoGetHeuristic(Handle, Handle, Handle, Handle, Handle, Handle, Handle, int, void* results, int* found) { memset(results, 0, 96); *found = 1; return 0; }
API int cublasGetMathMode(Handle, int* mode) { *mode = 0; return 0; }
API const char* cublasGetStatusName(int) { return "CUBLAS_STATUS_PRETENDED"; }
API const char* cublasGetStatusString(int) { return "CUBLAS_STATUS_PRETENDED"; }
API int curandCreateGenerator(Handle* out, int) { return handle(out); }

// cuDNN. Descriptors of its backend are numbers of a type; a plan is type 4, a heuristic type 5.
API size_t cudnnGetVersion() { return 91200; }
API size_t cudnnGetCudartVersion() { return 13000; }
API const char* cudnnGetErrorString(int code) {
  return code == 5000 ? "CUDNN_STATUS_EXECUTION_FAILED" : code == 4004 ? "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED" : "CUDNN_STATUS_PRETENDED";
}
API void cudnnGetLastErrorString(char* out, size_t n) { if (n) *out = 0; }
API int cudnnGetStream(Handle, Handle* out) { *out = nullptr; return 0; }
API int cudnnBackendCreateDescriptor(int type, void** out) { *out = calloc(1, 256); *(long*)*out = type; return 0; }
API int cudnnBackendFinalize(void* descriptor) { return *(long*)descriptor == 4 ? failure(PLANNING) : 0; }
API int cudnnBackendExecute(Handle, Handle, Handle) { counters[EXECUTIONS]++; int code = failure(EXECUTING); return code ? code : failure(RUNNING) ? 5000 : 0; }
API int cudnnBackendGetAttribute(Handle, int attribute, int type, long wanted, long* count, void* out) {
  long found = 0;
  if (attribute == 302 || attribute == 1302) {  // an engine without knobs
  } else if (type == 15) {  // a descriptor: there is one engine
    counters[PLANS] += attribute == 202 && !wanted;
    found = attribute == 202 || wanted > 0;
  } else if (type == 3 && out && wanted) {
    *(long*)out = attribute == 402 || attribute == 303 ? number("FAKE_WORKSPACE_MB", 0) * (long)MIB : 1;
    found = 1;
  } else if (type == 23 && out && wanted) {
    *(int*)out = 0;
    found = 1;
  }
  if (count) *count = found;
  return 0;
}
API int cudnnDropoutGetStatesSize(Handle, size_t* n) { *n = 0; return 0; }
API int cudnnGetConvolutionForwardAlgorithm_v7(Handle, Handle, Handle, Handle, Handle, int, int* n, void* out) { *n = 1; memset(out, 0, 64); return 0; }
API int cudnnGetConvolutionForwardWorkspaceSize(Handle, Handle, Handle, Handle, Handle, int, size_t* n) { *n = 0; return 0; }
API int cudnnGetReductionIndicesSize(Handle, Handle, Handle, Handle, size_t* n) { *n = 0; return 0; }
API int cudnnGetReductionWorkspaceSize(Handle, Handle, Handle, Handle, size_t* n) { *n = MIB; return 0; }

// NVML, which shows all GPUs, in the order of the bus: the reverse of CUDA's here
static int by_bus(int index) { return hardware() - 1 - index; }
API int nvmlDeviceGetCount_v2(unsigned* n) { if (getenv("FAKE_NO_NVML")) return 9; *n = hardware(); return 0; }
API int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle* out) { *out = (Handle)(long)(by_bus(index) + 1); return 0; }
API int nvmlInitWithFlags(unsigned) { return getenv("FAKE_NO_NVML") ? 9 : 0; }
API int nvmlDeviceGetName(Handle device, char* out, unsigned n) { snprintf(out, n, "Pretended GPU %ld", (long)device - 1); return 0; }
API int nvmlDeviceGetMemoryInfo(Handle device, unsigned long long* out) {  // total, free, used
  std::lock_guard<std::mutex> lock(guard);
  int index = (long)device - 1;
  out[0] = number_of("FAKE_TOTAL_MB", index, 81559) * MIB;
  out[2] = used(index);
  out[1] = out[0] - out[2];
  return 0;
}
API const char* nvmlErrorString(int) { return "a pretended error"; }

// All other functions of these libraries that the provider names: they succeed, and those with a name of work are counted.
#define MAKE(name) API int name(Handle* out) { return handle(out); }
#define NOTHING(name) API int name() { return 0; }
#define WORK(name) API int name() { counters[EXECUTIONS]++; return failure(RUNNING) ? 13 : 0; }
#include STUBS
