// Adaptive polling: decides which of the turns that do not block poll for events.
//
// A turn that has callbacks to run polls with a timeout of 0, and the system call costs as much as a callback. Two
// policies leave polls out:
//
//   - Empty polls. After `empty_polls_to_skip` polls in a row that found nothing, up to `max_skipped_polls` turns in a
//     row skip the poll, for `max_poll_gap_ns` at most. So an event is dispatched at most that much later than by a
//     loop that polls in every turn, plus the callbacks of the turn that runs. An event, a turn that blocks, a change
//     of what is watched, and a loop that begins to run end it: the next `empty_polls_to_skip` turns poll again. With
//     nothing watched there is nothing to find, and no time limit: `max_skipped_polls` turns in a row skip.
//
//   - Busy batch. After a poll that found at least `busy_batch_min` events, the next turn skips its poll, if less than
//     `max_busy_gap_ns` have passed. A busy server works in phases: what a request's bytes have woken runs in the turn
//     after the one that read them. A poll between the two would find the first few of the next requests, and so split
//     the connections into groups whose phases differ for good; each group finds the caches full of the other's code,
//     and pays for polls of its own. An event is dispatched one turn later then, as if it had come that much later. It
//     is never dispatched earlier: a coroutine that awaits create_connection() goes on before the first bytes are
//     received, as in asyncio.
//
// A program that counts turns (`await asyncio.sleep(0)` until an answer is there) sees an event in the turn in which it
// expects it, as long as it counts no further than `empty_polls_to_skip`, and has few connections.
//
// Loop thread only.
#pragma once

#include <cstdint>

#include "zloop/clock.hpp"

namespace zloop {

class AdaptivePolling {
 public:
  static constexpr int empty_polls_to_skip = 64;
  static constexpr int max_skipped_polls = 64;
  static constexpr std::int64_t max_poll_gap_ns = 50'000;
  static constexpr int busy_batch_min = 4;
  static constexpr std::int64_t max_busy_gap_ns = 1'000'000;

  // `clock` gives nanoseconds that never go backwards.
  explicit AdaptivePolling(std::int64_t (*clock)() noexcept = monotonic_ns) noexcept : clock_(clock) {}

  // From here on every turn polls.
  void disable() noexcept { max_skipped_ = 0; }

  // Whether this turn, which does not block, skips its poll; it is counted then. `watching`: a poll may find something.
  bool skips(bool watching) noexcept {
    if (skipped_ == max_skipped_ || (watching && !may_skip())) return false;
    ++skipped_;
    return true;
  }

  // A turn that does not block has polled. `events`: how many it found, or below zero: it was interrupted.
  void polled(int events) noexcept {
    skipped_ = 0;
    busy_ = events >= busy_batch_min;
    if (events != 0) {
      empty_polls_ = 0;
    } else if (empty_polls_ < empty_polls_to_skip) {
      ++empty_polls_;
    }
    if (busy_ || empty_polls_ == empty_polls_to_skip) polled_at_ = clock_();
  }

  // The same of a turn that would block.
  void blocked(int events) noexcept {
    polled(events);
    empty_polls_ = 0;
  }

  // Events have become likely: the next turns poll.
  void reset() noexcept {
    busy_ = false;
    empty_polls_ = 0;
  }

 private:
  // Whether this turn may skip its poll although something is watched.
  [[nodiscard]] bool may_skip() const noexcept {
    if (busy_ && skipped_ == 0) return clock_() - polled_at_ < max_busy_gap_ns;
    return empty_polls_ == empty_polls_to_skip && clock_() - polled_at_ < max_poll_gap_ns;
  }

  std::int64_t (*clock_)() noexcept;
  int max_skipped_ = max_skipped_polls;
  int skipped_ = 0;             // turns since the last poll
  int empty_polls_ = 0;         // in a row, up to empty_polls_to_skip
  bool busy_ = false;           // the last poll found a busy batch, and no reset() has come since
  std::int64_t polled_at_ = 0;  // time of the last poll; set when a policy begins to apply
};

}  // namespace zloop
