# Declarations of the C++ engine, one file per header; no logic lives here.
