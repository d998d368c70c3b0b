// The part of PTX that the program's kernels are made of, as nvcc writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

enum class Type {
    None,
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    BF16,
    B32,
    U32,
    S32,
    F32,
    F16x2,
    BF16x2,
    B64,
    U64,
    S64,
    F64
};

// The type that a word of an instruction names, or None.
Type type_named(const std::string &word);
size_t size_of(Type type);

struct Operand {
    enum Kind { Register, Immediate, Special } kind;
    // A register's number; which of the special ones.
    int number = 0;
    // Of an immediate, with the place of a symbol for its name. In an address, what is added to the register.
    uint64_t value = 0;
    bool negated = false;
};

struct Step;
using Execute = void (*)(const Step &);

struct Instruction {
    // For messages.
    std::string text;
    // Of its name, between the points.
    std::vector<std::string> words;
    // The types in its name, the first and the last.
    Type type = Type::None, from = Type::None;
    // How it rounds, as <cfenv> says it.
    int rounding = 0;
    // The register that lanes need to be set, or unset; -1 for none.
    int guard = -1;
    bool unless = false;
    // The registers of a vector are one operand.
    std::vector<std::vector<Operand>> operands;
    Execute execute = nullptr;
    // Of a branch.
    size_t target = 0;

    bool has(const char *word) const;
};

struct Parameter {
    size_t offset, size;
};

struct Kernel {
    std::string name;
    std::vector<Instruction> code;
    std::vector<Parameter> parameters;
    size_t parameter_bytes = 0, shared_bytes = 0, local_bytes = 0, registers = 0;
};

// Finds a kernel in the text of a module.
Kernel parse(const std::string &module, const std::string &name);

// What executes an instruction; instructions that nothing here knows end the program when they are met.
Execute execute_named(const std::vector<std::string> &words);

struct Size {
    uint32_t x, y, z;
};

// Runs a kernel in every block of a grid, one after another.
void run(const Kernel &kernel, const std::vector<uint8_t> &parameters, Size grid, Size block, size_t dynamic_shared);

// Whether a stretch lies within one allocation.
bool is_allocated(uint64_t address, size_t size);

[[noreturn]] void fail(const std::string &what);
