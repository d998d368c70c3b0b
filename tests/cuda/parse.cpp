// From the text of a module to a kernel's instructions.
#include "ptx.hpp"

#include <algorithm>
#include <cctype>
#include <cfenv>
#include <cstdlib>
#include <map>

Type type_named(const std::string &word) {
    static const std::map<std::string, Type> types = {
        {"pred", Type::Pred},   {"b8", Type::B8},         {"u8", Type::U8},   {"s8", Type::S8},   {"b16", Type::B16},
        {"u16", Type::U16},     {"s16", Type::S16},       {"f16", Type::F16}, {"b32", Type::B32}, {"bf16", Type::BF16},
        {"u32", Type::U32},     {"s32", Type::S32},       {"f32", Type::F32}, {"b64", Type::B64}, {"u64", Type::U64},
        {"f16x2", Type::F16x2}, {"bf16x2", Type::BF16x2}, {"s64", Type::S64}, {"f64", Type::F64}};
    const auto found = types.find(word);
    return found == types.end() ? Type::None : found->second;
}

size_t size_of(Type type) {
    switch (type) {
    case Type::Pred:
    case Type::B8:
    case Type::U8:
    case Type::S8:
        return 1;
    case Type::B16:
    case Type::U16:
    case Type::S16:
    case Type::F16:
    case Type::BF16:
        return 2;
    case Type::B64:
    case Type::U64:
    case Type::S64:
    case Type::F64:
        return 8;
    default:
        return 4;
    }
}

bool Instruction::has(const char *word) const { return std::find(words.begin(), words.end(), word) != words.end(); }

namespace {

std::string trimmed(const std::string &text) {
    const size_t first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// At separators that stand outside of braces and brackets.
std::vector<std::string> split(const std::string &text, char separator) {
    std::vector<std::string> parts(1);
    int depth = 0;
    for (const char letter : text) {
        depth += letter == '{' || letter == '[';
        depth -= letter == '}' || letter == ']';
        if (letter == separator && depth == 0)
            parts.emplace_back();
        else
            parts.back() += letter;
    }
    for (std::string &part : parts)
        part = trimmed(part);
    if (parts.back().empty())
        parts.pop_back();
    return parts;
}

bool starts_with(const std::string &text, const char *start) { return text.rfind(start, 0) == 0; }

// Something with a name and a place: `.align 4 .b8 name[128]`.
struct Declared {
    std::string name;
    size_t offset, size;
};

// Puts it behind `total` bytes.
Declared declare(std::string text, size_t &total) {
    std::replace(text.begin(), text.end(), '\t', ' ');
    Declared declared = {"", 0, 1};
    size_t align = 0, element = 1;
    for (const std::string &word : split(text, ' ')) {
        if (const Type type = type_named(word.substr(std::min<size_t>(1, word.size())));
            word[0] == '.' && type != Type::None)
            element = size_of(type);
        else if (std::isdigit(word[0]))
            align = std::stoul(word);
        else if (!word.empty() && word[0] != '.')
            declared.name = word;
    }
    if (const size_t bracket = declared.name.find('['); bracket != std::string::npos) {
        declared.size = std::stoul(declared.name.substr(bracket + 1));
        declared.name.resize(bracket);
    }
    declared.size *= element;
    align = align ? align : element;
    declared.offset = (total + align - 1) / align * align;
    total = declared.offset + declared.size;
    return declared;
}

struct Parser {
    Kernel kernel;
    std::map<std::string, int> registers;
    // Instructions that labels stand before; places of what is declared.
    std::map<std::string, uint64_t> labels, symbols;

    int register_named(const std::string &name) { return registers.try_emplace(name, registers.size()).first->second; }

    // One of %tid.x … or what else is known by its name.
    Operand named(const std::string &name) {
        static const std::vector<std::string> special = {"%tid", "%ntid", "%ctaid", "%nctaid"};
        const size_t point = name.find('.');
        const auto found = std::find(special.begin(), special.end(), name.substr(0, point));
        if (found != special.end())
            return {Operand::Special, int(found - special.begin()) * 3 + name.back() - 'x'};
        if (const auto symbol = symbols.find(name); symbol != symbols.end())
            return {Operand::Immediate, 0, symbol->second};
        return {Operand::Register, register_named(name)};
    }

    Operand operand(const std::string &text) {
        if (text[0] == '!') {
            Operand operand = named(text.substr(1));
            operand.negated = true;
            return operand;
        }
        if (text[0] == '[') {
            const auto parts = split(text.substr(1, text.size() - 2), '+');
            Operand operand = named(parts[0]);
            operand.value += parts.size() > 1 ? std::strtoll(parts[1].c_str(), nullptr, 0) : 0;
            return operand;
        }
        // 0f and 0d: the bits of a float, of a double.
        if (starts_with(text, "0f") || starts_with(text, "0d"))
            return {Operand::Immediate, 0, std::strtoull(text.c_str() + 2, nullptr, 16)};
        if (text[0] == '-')
            return {Operand::Immediate, 0, uint64_t(std::strtoll(text.c_str(), nullptr, 0))};
        if (std::isdigit(text[0]))
            return {Operand::Immediate, 0, std::strtoull(text.c_str(), nullptr, 0)};
        // Of a shuffle the lanes that took part are told as well: all of them.
        return named(text.substr(0, text.find('|')));
    }

    void add(std::string text) {
        Instruction instruction;
        instruction.text = text;
        if (text[0] == '@') {
            const size_t end = text.find_first_of(" \t");
            instruction.unless = text[1] == '!';
            instruction.guard = register_named(text.substr(1 + instruction.unless, end - 1 - instruction.unless));
            text = trimmed(text.substr(end));
        }
        const size_t end = std::min(text.find_first_of(" \t\n"), text.size());
        instruction.words = split(text.substr(0, end), '.');
        for (const std::string &word : instruction.words)
            if (const Type type = type_named(word); type != Type::None) {
                instruction.type = instruction.type == Type::None ? type : instruction.type;
                instruction.from = type;
            }
        instruction.rounding = rounding(instruction);
        instruction.execute = execute_named(instruction.words);
        if (instruction.words[0] == "bra")
            instruction.target = labels.at(trimmed(text.substr(end)));
        else if (instruction.words[0] != "call")
            for (const std::string &part : split(text.substr(end), ',')) {
                instruction.operands.emplace_back();
                const bool vector = part[0] == '{';
                for (const std::string &one : split(vector ? part.substr(1, part.size() - 2) : part, ','))
                    instruction.operands.back().push_back(operand(one));
            }
        kernel.code.push_back(instruction);
    }

    static int rounding(const Instruction &instruction) {
        for (const char *down : {"rm", "rmi"})
            if (instruction.has(down))
                return FE_DOWNWARD;
        for (const char *up : {"rp", "rpi"})
            if (instruction.has(up))
                return FE_UPWARD;
        for (const char *zero : {"rz", "rzi"})
            if (instruction.has(zero))
                return FE_TOWARDZERO;
        return FE_TONEAREST;
    }
};

// What stands between semicolons from `at`, which is behind a kernel's opening brace, to the closing one; labels end
// with a colon. Braces inside are scopes of names that are nowhere used twice at a time.
std::vector<std::string> statements(const std::string &module, size_t at) {
    std::vector<std::string> found;
    for (int depth = 1; depth > 0;) {
        const char letter = module.at(at);
        if (module.compare(at, 2, "//") == 0) {
            at = module.find('\n', at);
        } else if (letter == '{' || letter == '}') {
            depth += letter == '{' ? 1 : -1;
            at++;
        } else if (std::isspace(letter) || letter == ';') {
            at++;
        } else if (letter == '$') {
            const size_t end = module.find(':', at);
            found.push_back(module.substr(at, end + 1 - at));
            at = end + 1;
        } else {
            const size_t end = module.find(';', at);
            std::string text = module.substr(at, end - at);
            for (size_t comment = text.find("//"); comment != std::string::npos; comment = text.find("//"))
                text.erase(comment, text.find('\n', comment) - comment);
            found.push_back(trimmed(text));
            at = end;
        }
    }
    return found;
}

} // namespace

Kernel parse(const std::string &module, const std::string &name) {
    const std::string entry = ".entry " + name + "(";
    const size_t start = module.find(entry);
    if (start == std::string::npos)
        fail("a module has no kernel " + name);
    Parser parser;
    Kernel &kernel = parser.kernel;
    kernel.name = name;
    const size_t first = start + entry.size(), last = module.find(")", first);
    for (const std::string &text : split(module.substr(first, last - first), ',')) {
        const Declared declared = declare(text, kernel.parameter_bytes);
        parser.symbols[declared.name] = declared.offset;
        kernel.parameters.push_back({declared.offset, declared.size});
    }
    const auto found = statements(module, module.find('{', last) + 1);
    // Names first: code jumps ahead.
    size_t instructions = 0;
    for (const std::string &text : found) {
        if (text.back() == ':')
            parser.labels[text.substr(0, text.size() - 1)] = instructions;
        else if (starts_with(text, ".shared") || starts_with(text, ".local")) {
            const Declared declared = declare(text, text[1] == 's' ? kernel.shared_bytes : kernel.local_bytes);
            parser.symbols[declared.name] = declared.offset;
        } else if (text[0] != '.')
            instructions++;
    }
    for (const std::string &text : found)
        if (text.back() != ':' && text[0] != '.')
            parser.add(text);
    kernel.registers = parser.registers.size();
    return kernel;
}
