// Calls from the engine into methods of native classes.
//
// The engine calls the functions of its tables (StreamOps and the like) with a pointer to the owner, and takes no
// exception. A method that Cython generates takes the owner as `self`, and returns -1 with an exception set when it
// raises. call_method() stands between the two.
//
// No destructor and no catch: the unwinding of a thread that ends in the method passes through.
#pragma once

#include <Python.h>

#include <utility>

namespace zloop::binding {

// The attribute `loop` of a native object. Cython puts the attributes of a base class into a member `__pyx_base`.
template <typename Object>
auto* loop_of(Object* object) {
  if constexpr (requires { object->loop; }) {
    return object->loop;
  } else {
    return loop_of(&object->__pyx_base);
  }
}

// Returns what method(owner, arguments...) returns. If that is -1, calls report(owner, loop) first, with the exception
// set; report() clears it. The owner is kept alive during both. The loop is the one that the owner had before, in case
// the method takes it away; it is running, so its caller keeps it alive.
template <typename Result, typename Owner, typename Reported, typename Loop, typename... Parameters,
          typename... Arguments>
Result call_method(void* owner, Result (*method)(Owner*, Parameters...), void (*report)(Reported*, Loop*),
                   Arguments&&... arguments) {
  auto* object = static_cast<PyObject*>(owner);
  auto* loop = loop_of(static_cast<Owner*>(owner));
  Py_INCREF(object);
  const Result result = method(static_cast<Owner*>(owner), std::forward<Arguments>(arguments)...);
  if (result == static_cast<Result>(-1)) [[unlikely]] {
    report(static_cast<Reported*>(owner), reinterpret_cast<Loop*>(loop));
  }
  Py_DECREF(object);
  return result;
}

}  // namespace zloop::binding
