// Deferred and DeferredList, of reactor.hpp.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "support/catch.hpp"
#include "zloop/reactor.hpp"

namespace {

using zloop::Deferred;
using zloop::DeferredList;

// Writes its letter when it runs, then does what it was told.
struct Task {
  Task(char with_letter, std::string& with_log) : letter(with_letter), log(with_log) {}

  static void run(void* owner) noexcept {
    auto& task = *static_cast<Task*>(owner);
    task.log += task.letter;
    if (task.then) task.then();
  }

  char letter;
  std::string& log;
  std::function<void()> then;
  Deferred deferred{&Task::run, this};
};

struct Tasks {
  std::string log;
  DeferredList list;
  Task a{'a', log};
  Task b{'b', log};
  Task c{'c', log};

  Task& with(char letter) {
    if (letter == 'a') return a;
    return letter == 'b' ? b : c;
  }

  void schedule_all() {
    for (Task* task : {&a, &b, &c}) list.schedule(task->deferred);
  }
};

TEST_CASE("a list runs what is scheduled, in order, once") {
  Tasks tasks;
  CHECK(tasks.list.empty());
  tasks.list.run();
  tasks.schedule_all();
  CHECK_FALSE(tasks.list.empty());
  CHECK(tasks.a.deferred.scheduled());
  tasks.list.run();
  tasks.list.run();
  CHECK(tasks.log == "abc");
  CHECK(tasks.list.empty());
  CHECK_FALSE(tasks.a.deferred.scheduled());
}

TEST_CASE("scheduling twice changes nothing") {
  Tasks tasks;
  tasks.schedule_all();
  tasks.list.schedule(tasks.a.deferred);
  tasks.list.run();
  CHECK(tasks.log == "abc");
}

TEST_CASE("what is cancelled does not run, wherever it stood") {
  Tasks tasks;
  tasks.schedule_all();
  const char letter = GENERATE('a', 'b', 'c');
  Task& cancelled = tasks.with(letter);
  cancelled.deferred.cancel();
  cancelled.deferred.cancel();
  CHECK_FALSE(cancelled.deferred.scheduled());
  tasks.list.run();
  CHECK(tasks.log.size() == 2);
  CHECK(tasks.log.find(letter) == std::string::npos);
}

TEST_CASE("what is scheduled during a run waits for the next one") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.list.schedule(tasks.a.deferred);  // itself
    tasks.list.schedule(tasks.c.deferred);  // another
  };
  tasks.list.schedule(tasks.a.deferred);
  tasks.list.schedule(tasks.b.deferred);
  tasks.list.run();
  CHECK(tasks.log == "ab");
  CHECK_FALSE(tasks.list.empty());
  tasks.a.then = nullptr;
  tasks.list.run();
  CHECK(tasks.log == "abac");
  CHECK(tasks.list.empty());
}

TEST_CASE("what has run can be scheduled again by what runs after it") {
  Tasks tasks;
  tasks.b.then = [&] { tasks.list.schedule(tasks.a.deferred); };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "abc");
  tasks.list.run();
  CHECK(tasks.log == "abca");
}

TEST_CASE("what is cancelled during a run does not run in it") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.b.deferred.cancel();
    tasks.c.deferred.cancel();
  };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "a");
  CHECK(tasks.list.empty());
}

TEST_CASE("what is cancelled and scheduled anew during a run goes to the next one") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.b.deferred.cancel();
    tasks.list.schedule(tasks.b.deferred);
  };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "ac");
  tasks.list.run();
  CHECK(tasks.log == "acb");
}

TEST_CASE("what goes while it is scheduled leaves the list") {
  Tasks tasks;
  auto task = std::make_unique<Task>('x', tasks.log);
  tasks.list.schedule(tasks.a.deferred);
  tasks.list.schedule(task->deferred);
  tasks.list.schedule(tasks.b.deferred);
  const bool during_the_run = GENERATE(false, true);
  if (during_the_run) {
    tasks.a.then = [&] { task.reset(); };
  } else {
    task.reset();
  }
  tasks.list.run();
  CHECK(tasks.log == "ab");
}

// Ends itself, and its Deferred with it, when it runs.
struct SelfEnding {
  explicit SelfEnding(bool& with_ended) : ended(with_ended) {}
  ~SelfEnding() { ended = true; }
  SelfEnding(const SelfEnding&) = delete;
  SelfEnding& operator=(const SelfEnding&) = delete;

  static void run(void* owner) noexcept { static_cast<SelfEnding*>(owner)->self.reset(); }

  bool& ended;
  std::unique_ptr<SelfEnding> self{this};
  Deferred deferred{&SelfEnding::run, this};
};

TEST_CASE("what runs may end itself") {
  Tasks tasks;
  bool ended = false;
  tasks.list.schedule((new SelfEnding(ended))->deferred);
  tasks.list.schedule(tasks.a.deferred);
  tasks.list.run();
  CHECK(ended);
  CHECK(tasks.log == "a");
}

TEST_CASE("a list that goes takes everybody off") {
  std::string log;
  Task task('a', log);
  std::optional<DeferredList> list(std::in_place);
  list->schedule(task.deferred);
  list.reset();
  CHECK_FALSE(task.deferred.scheduled());
  task.deferred.cancel();
  DeferredList next;
  next.schedule(task.deferred);
  next.run();
  CHECK(log == "a");
}

}  // namespace
