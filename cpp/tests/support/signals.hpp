// Helpers for signals.
#pragma once

#include <csignal>
#include <thread>

namespace zloop::test {

// Ignores SIGPIPE during its lifetime, as the interpreter does.
class IgnoredSigpipe {
 public:
  IgnoredSigpipe();
  ~IgnoredSigpipe();
  IgnoredSigpipe(const IgnoredSigpipe&) = delete;
  IgnoredSigpipe& operator=(const IgnoredSigpipe&) = delete;

 private:
  struct sigaction before_{};
};

// During its lifetime, this thread receives one signal after another, with a handler that does nothing: every blocking
// call is interrupted, whenever it begins.
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
