#include "meter.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bench {

namespace {

constexpr std::chrono::seconds patience{10};

clockid_t clock_of(pid_t process) {
  clockid_t clock{};
  if (const int error = ::clock_getcpuclockid(process, &clock); error != 0) {
    throw std::system_error(error, std::generic_category(), "clock_getcpuclockid");
  }
  return clock;
}

// The latency, in microseconds, that `share` of all requests stay below; sorts a part of them.
std::string percentile(std::vector<std::uint32_t>& latencies_ns, double share) {
  if (latencies_ns.empty()) return "null";
  const auto rank = static_cast<std::ptrdiff_t>(share * static_cast<double>(latencies_ns.size() - 1));
  std::nth_element(latencies_ns.begin(), latencies_ns.begin() + rank, latencies_ns.end());
  return std::to_string(latencies_ns[static_cast<std::size_t>(rank)] / 1e3);
}

}  // namespace

Meter::Meter(pid_t server, std::chrono::milliseconds warm_up, std::chrono::milliseconds window)
    : server_clock_(clock_of(server)),
      warm_up_(warm_up),
      window_(window),
      phase_ends_(Clock::now() + warm_up),
      progress_seen_(Clock::now()) {
  constexpr std::size_t likely_most = 1 << 20;
  latencies_ns_.reserve(likely_most);
}

void Meter::complete(Clock::time_point began, Clock::time_point ended, std::uint64_t count) {
  requests_ += count;
  if (phase_ != Phase::window) return;
  constexpr std::int64_t most = std::numeric_limits<std::uint32_t>::max();
  latencies_ns_.push_back(static_cast<std::uint32_t>(std::min<std::int64_t>((ended - began).count(), most)));
}

void Meter::tick() {
  const auto time = Clock::now();
  check_progress(time);
  if (requests_ == 0) phase_ends_ = time + warm_up_;
  if (time < phase_ends_) return;
  if (phase_ == Phase::warm_up) {
    phase_ = Phase::window;
    phase_ends_ = time + window_;
    began_ = now();
  } else if (phase_ == Phase::window && requests_ > began_.requests) {  // a virtual machine may have stood still
    phase_ = Phase::over;
    ended_ = now();
  }
}

std::chrono::milliseconds Meter::until_next_phase() const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(phase_ends_ - Clock::now());
  return std::clamp(left, std::chrono::milliseconds{0}, std::chrono::milliseconds{100});
}

void Meter::check_progress(Clock::time_point time) {
  if (requests_ != requests_seen_) {
    requests_seen_ = requests_;
    progress_seen_ = time;
  } else if (time - progress_seen_ > patience) {
    throw std::runtime_error("the server has answered nothing for " + std::to_string(patience.count()) + " s");
  }
}

Meter::Moment Meter::now() const {
  timespec spent{};
  check(::clock_gettime(server_clock_, &spent), "clock_gettime");
  const auto processor_time = std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
  return {.time = Clock::now(), .processor_time = processor_time, .requests = requests_};
}

void Meter::print(double pieces_per_request) const {
  using Seconds = std::chrono::duration<double>;
  const double requests = static_cast<double>(ended_.requests - began_.requests) / pieces_per_request;
  const Seconds spent = ended_.processor_time - began_.processor_time;
  auto latencies = latencies_ns_;
  std::printf(R"({"cost": %.6f, "rate": %.3f, "p50": %s, "p99": %s})"
              "\n",
              spent.count() * 1e6 / requests, requests / Seconds(ended_.time - began_.time).count(),
              percentile(latencies, 0.50).c_str(), percentile(latencies, 0.99).c_str());
}

}  // namespace bench
