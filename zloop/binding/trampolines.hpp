// Calls from the engine into methods of native classes.
//
// The engine calls the functions of its tables (StreamOps and others) with a pointer to the owner; they must not raise.
// A method that Cython generates takes the owner as `self`, and returns -1 with an exception set if it raises.
// call_method() connects the two.
//
// It has no destructor and no catch, so that the unwinding of a thread that ends in the method passes through it.
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

// Returns what method(owner, arguments...) returns. If that is -1, it first calls report(owner, loop) with the
// exception set; report() clears it. The owner is kept alive during both calls. The loop is read before the method is
// called, because the method may clear the attribute; the loop is running, so its caller keeps it alive.
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
