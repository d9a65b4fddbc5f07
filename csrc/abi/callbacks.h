// The interfaces TensorRT calls, in its slot order. Every method is noexcept: what leaves it ends the
// process.
#pragma once

#include "types.h"

namespace pynn::abi {

// Generations A and C.
class PlainLogger {
 public:
  virtual void log(int32_t severity, const char* text) noexcept = 0;
  virtual ~PlainLogger() = default;
};

class Versioned {
 public:
  virtual int32_t getAPILanguage() const noexcept { return 0; }
  virtual InterfaceInfo getInterfaceInfo() const noexcept = 0;
  virtual ~Versioned() = default;
};

// Generations B and D.
class VersionedLogger : public Versioned {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
  virtual void log(int32_t severity, const char* text) noexcept = 0;
};

class ProgressMonitor : public Versioned {
 public:
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"IProgressMonitor", 1, 0}; }
  virtual void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept = 0;
  virtual bool stepComplete(const char* phase, int32_t step) noexcept = 0;
  virtual void phaseFinish(const char* phase) noexcept = 0;
};

}  // namespace pynn::abi
