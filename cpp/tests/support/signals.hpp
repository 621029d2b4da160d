// Signals on purpose, and one that is not wanted.
#pragma once

#include <csignal>
#include <thread>

namespace zloop::test {

// While it lives, SIGPIPE is ignored, as the interpreter has it.
class IgnoredSigpipe {
 public:
  IgnoredSigpipe();
  ~IgnoredSigpipe();
  IgnoredSigpipe(const IgnoredSigpipe&) = delete;
  IgnoredSigpipe& operator=(const IgnoredSigpipe&) = delete;

 private:
  struct sigaction before_{};
};

// While it lives, this thread gets a signal again and again, whose handler does nothing: whatever blocks is
// interrupted, however late it begins.
class SignalStorm {
 public:
  SignalStorm();
  ~SignalStorm();
  SignalStorm(const SignalStorm&) = delete;
  SignalStorm& operator=(const SignalStorm&) = delete;

 private:
  struct sigaction before_{};
  std::jthread sender_;
};

}  // namespace zloop::test
