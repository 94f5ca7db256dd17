# Holds your functions against a file of vectors. Julia 1.9 or later, with JSON.jl:
#   julia -e 'import Pkg; Pkg.add("JSON")' && julia harness.jl vectors-1.0.safetensors
using JSON

const REAL, DTYPE = Float64, "float64"  # what you compute in; or Float32, "float32"

# ---- Your functions: arrays and options in, results by name out. Axes are in the file's order:
# the file's axis −1 is the last one here too, dims = ndims(x).

function softmax(inputs, options)
    x = inputs["x"]
    weights = exp.(x .- maximum(x; dims=ndims(x)))
    return Dict("y" => weights ./ sum(weights; dims=ndims(x)))
end

function layer_norm(inputs, options)
    x = inputs["x"]
    d = size(x)[end]
    eps = REAL(get(options, "eps", 1e-5))  # what is not among the options has its default
    as_row(v) = reshape(v, ntuple(_ -> 1, ndims(x) - 1)..., d)
    centred = x .- sum(x; dims=ndims(x)) ./ d
    y = centred ./ sqrt.(sum(abs2, centred; dims=ndims(x)) ./ d .+ eps)
    y = haskey(inputs, "gain") ? y .* as_row(inputs["gain"]) : y
    return Dict("y" => haskey(inputs, "bias") ? y .+ as_row(inputs["bias"]) : y)
end

const FUNCTIONS = Dict("softmax" => softmax, "layer_norm" => layer_norm)

# ---- The file, and the comparison.

function load(header, data, key)
    entry = header[key]
    first, last = entry["data_offsets"]
    bytes = data[first+1:last]
    flat = entry["dtype"] == "BOOL" ? bytes .!= 0x00 : REAL.(reinterpret(Float64, bytes))
    shape = Tuple(Int.(entry["shape"]))
    # The file is row-major and Julia column-major: reverse the shape, then the axes.
    return permutedims(reshape(flat, reverse(shape)), length(shape):-1:1)
end

function main(path)
    file = read(path)
    len = Int(ltoh(reinterpret(UInt64, file[1:8])[1]))
    header, data = JSON.parse(String(file[9:8+len])), file[9+len:end]
    manifest = JSON.parse(header["__metadata__"]["manifest"])
    manifest["format"] == "mgt-np-vectors" && startswith(manifest["version"], "1.") ||
        error("expected mgt-np-vectors 1.x")
    passed = failed = skipped = 0
    for case in manifest["cases"]
        id = case["id"]
        if !haskey(FUNCTIONS, case["function"]) || haskey(case, "withdrawn")
            skipped += 1
            continue
        end
        inputs = Dict(name => load(header, data, "$id/in.$name") for name in case["in"])
        got = FUNCTIONS[case["function"]](inputs, case["options"])
        right, worst = true, 0.0
        for name in case["out"]
            out, y = load(header, data, "$id/out.$name"), got[name]
            noise = case["noise"][DTYPE][name]
            right &= size(y) == size(out)
            right || continue
            errors = abs.(Float64.(y) .- out)
            worst = max(worst, maximum(errors; init=0.0) / noise)
            right &= all(errors .<= 4 * noise)  # and so NaN is wrong
        end
        println(right ? "right" : "WRONG", " $id: $(round(worst; sigdigits=2)) x noise")
        right ? (passed += 1) : (failed += 1)
    end
    println("$passed passed, $failed failed, $skipped skipped")
    return failed == 0 && passed > 0
end

exit(main(isempty(ARGS) ? "vectors-1.0.safetensors" : ARGS[1]) ? 0 : 1)
