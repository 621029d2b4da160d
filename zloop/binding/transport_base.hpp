// The instance layout of asyncio's transport classes, for native classes that derive from them.
//
// asyncio.BaseTransport has one slot, `_extra` (__slots__, CPython 3.8 to 3.15). _asyncio_base.cpp checks at import
// that there is no other.
#pragma once

#include <Python.h>

struct ZloopTransportBase {
  PyObject_HEAD
  PyObject* _extra;  // owned; a dict after the transport is initialized
};
