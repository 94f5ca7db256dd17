// Holds your functions against a file of vectors. C++17, no library, a little-endian machine:
//   c++ -std=c++17 -O2 harness.cpp -o harness && ./harness vectors-1.0.safetensors
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

using real = double;                  // what you compute in; for float ...
const char *const DTYPE = "float64";  // ... this is "float32"

struct Array {
    std::vector<size_t> shape;  // row-major: the last axis is contiguous
    std::vector<real> data;
};
using Arrays = std::map<std::string, Array>;

struct Json {
    std::string text;                    // of a string, a number, true, false or null
    std::vector<Json> items;             // of a list
    std::map<std::string, Json> fields;  // of an object
    double number() const { return std::strtod(text.c_str(), nullptr); }
    const Json &at(const std::string &key) const {
        if (!fields.count(key)) throw std::runtime_error("expected the key " + key);
        return fields.at(key);
    }
};

// ---- Your functions: arrays and options in, results by name out.

Arrays softmax(const Arrays &in, const Json &) {
    Array y = in.at("x");
    const size_t d = y.shape.back();
    for (size_t row = 0; row < y.data.size(); row += d) {
        real *r = &y.data[row], largest = *std::max_element(r, r + d), sum = 0;
        for (size_t i = 0; i < d; ++i) sum += r[i] = std::exp(r[i] - largest);
        for (size_t i = 0; i < d; ++i) r[i] /= sum;
    }
    return {{"y", y}};
}

Arrays layer_norm(const Arrays &in, const Json &options) {
    Array y = in.at("x");
    const size_t d = y.shape.back();
    // What is not among the options has its default, and an array left out is not used.
    const real eps = options.fields.count("eps") ? options.at("eps").number() : 1e-5;
    for (size_t row = 0; row < y.data.size(); row += d) {
        real *r = &y.data[row], mean = 0, variance = 0;
        for (size_t i = 0; i < d; ++i) mean += r[i] / d;
        for (size_t i = 0; i < d; ++i) variance += (r[i] - mean) * (r[i] - mean) / d;
        for (size_t i = 0; i < d; ++i) {
            r[i] = (r[i] - mean) / std::sqrt(variance + eps);
            if (in.count("gain")) r[i] *= in.at("gain").data[i];
            if (in.count("bias")) r[i] += in.at("bias").data[i];
        }
    }
    return {{"y", y}};
}

const std::map<std::string, std::function<Arrays(const Arrays &, const Json &)>> FUNCTIONS = {
    {"softmax", softmax}, {"layer_norm", layer_norm}};

// ---- The file, and the comparison.

Json parse(const char *&p) {  // as much of JSON as the header and the manifest need
    auto skip = [&] {
        while (*p && std::strchr(" \t\r\n,:", *p)) ++p;
        if (!*p) throw std::runtime_error("the JSON ends too early");
    };
    Json value;
    skip();
    if (*p == '{' || *p == '[') {
        const char close = *p++ == '{' ? '}' : ']';
        for (skip(); *p != close; skip()) {
            Json item = parse(p);
            if (close == ']') value.items.push_back(item);
            else value.fields[item.text] = parse(p);
        }
        ++p;
    } else if (*p == '"') {
        while (*++p != '"') {
            const bool escaped = *p == '\\' && *++p;
            if (!*p) throw std::runtime_error("the JSON ends too early");
            value.text += escaped && *p == 'n' ? '\n' : *p;  // \u stands in prose alone
        }
        ++p;
    } else {
        while (*p && !std::strchr(",]} \n", *p)) value.text += *p++;
    }
    return value;
}

Array load(const Json &header, const std::string &data, const std::string &key) {
    const Json &entry = header.at(key), &offsets = entry.at("data_offsets");
    const size_t size = entry.at("dtype").text == "BOOL" ? 1 : 8;  // a mask; all else is F64
    const size_t begin = offsets.items.at(0).number(), end = offsets.items.at(1).number();
    if (begin > end || end > data.size()) throw std::runtime_error(key + " is cut");
    Array array;
    for (const Json &n : entry.at("shape").items) array.shape.push_back(n.number());
    for (size_t i = begin; i + size <= end; i += size) {
        double x = data[i];
        if (size == 8) std::memcpy(&x, &data[i], 8);
        array.data.push_back(real(x));
    }
    return array;
}

int main(int argc, char **argv) try {
    std::ifstream stream(argc > 1 ? argv[1] : "vectors-1.0.safetensors", std::ios::binary);
    const std::string file{std::istreambuf_iterator<char>(stream), {}};
    uint64_t length = 0;
    if (file.size() >= 8) std::memcpy(&length, file.data(), 8);
    if (!length || length > file.size() - 8) throw std::runtime_error("no .safetensors file");
    const std::string text = file.substr(8, length), data = file.substr(8 + length);
    const char *p = text.c_str();
    const Json header = parse(p);
    p = header.at("__metadata__").at("manifest").text.c_str();
    const Json manifest = parse(p);
    const std::string version = manifest.at("version").text;
    if (manifest.at("format").text != "mgt-np-vectors" || version.rfind("1.", 0) != 0)
        throw std::runtime_error("expected mgt-np-vectors 1.x, got version " + version);

    int passed = 0, failed = 0, skipped = 0;
    for (const Json &c : manifest.at("cases").items) {
        const std::string id = c.at("id").text;
        const auto function = FUNCTIONS.find(c.at("function").text);
        if (function == FUNCTIONS.end() || c.fields.count("withdrawn")) {
            ++skipped;
            continue;
        }
        Arrays in;
        for (const Json &name : c.at("in").items)
            in[name.text] = load(header, data, id + "/in." + name.text);
        const Arrays got = function->second(in, c.at("options"));
        bool right = true;
        double worst = 0;
        for (const Json &name : c.at("out").items) {
            const Array out = load(header, data, id + "/out." + name.text);
            const Array &y = got.at(name.text);
            const double noise = c.at("noise").at(DTYPE).at(name.text).number();
            right = right && y.shape == out.shape && y.data.size() == out.data.size();
            for (size_t i = 0; right && i < y.data.size(); ++i) {
                const double error = std::abs(double(y.data[i]) - double(out.data[i]));
                worst = std::max(worst, error / noise);
                right = error <= 4 * noise;  // and so NaN is wrong
            }
        }
        std::printf("%s %s: %.2g x noise\n", right ? "right" : "WRONG", id.c_str(), worst);
        ++(right ? passed : failed);
    }
    std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed || !passed;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
