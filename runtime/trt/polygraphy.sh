
usage() {
    cat >&2 <<EOF
bash polygraphy.sh STEP       $graph.onnx of $bundle
  golden [--trt]     on ONNX Runtime, and on TensorRT, against the values of the bundle's sample
  engine             the compiled engine against the same values
  layers [--onnxrt]  on TensorRT (or ONNX Runtime), layer by layer: stops at the first that differs
  reduce [--onnxrt]  cuts the graph down to the smallest one that differs: reduced.onnx
  inspect            prints what is in reduced.onnx
EOF
    exit 2
}

run() {
    echo "+ $*" >&2
    "$@"
}

# Protobuf ends at 2 GB, and Polygraphy edits a graph together with its weights.
require_editable() {
    ((bytes < 2 ** 31)) && return
    echo "$graph.onnx and its weights have $bytes bytes, Polygraphy edits graphs below 2147483648:" \
        "build the bundle in more pieces (build_engines.py --blocks N)" >&2
    exit 2
}

# What every layer gives on ONNX Runtime, once; and the same as inputs, for graphs that begin in the middle.
keep_layers() {
    [ -f layers.json ] && [ -f layers-inputs.json ] && return
    run polygraphy run "$onnx" --onnxrt "${as_written[@]}" --load-inputs inputs.json --onnx-outputs '*' \
        --save-outputs layers.partial.json
    run polygraphy data merge inputs.json layers.partial.json -o layers-inputs.json
    mv layers.partial.json layers.json
}

cd "$(dirname "${BASH_SOURCE[0]}")"
command -v polygraphy >/dev/null || { echo "Polygraphy is missing: pip install 'mobilevlm[polygraphy]'" >&2; exit 2; }
onnx=$bundle/$graph.onnx
[ -f "$onnx" ] || {
    echo "there is no $onnx: copy the whole bundle, or let runtime/verify.py --polygraphy write this script again" >&2
    exit 2
}
# ONNX Runtime's own rewriting would compute int4 layers with int8 activations.
as_written=(--graph-optimization-level ORT_DISABLE_ALL)
like_the_build=(--strongly-typed --max-aux-streams 0)
fixed=() static=()
if ((${#shapes[@]})); then
    fixed=(--input-shapes "${shapes[@]}")
    static=(--model-input-shapes "${shapes[@]}")
fi
golden=(--load-inputs inputs.json --load-outputs outputs.json --compare snr)
layers=(--load-outputs layers.json --compare snr --snr-threshold "$device_floor_db")
step=${1:-}
shift || usage
runner=${1:---trt}
case $step in
    golden)
        floor=$floor_db
        [ $# -eq 0 ] || floor=$device_floor_db
        run polygraphy run "$onnx" --onnxrt "$@" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            "${golden[@]}" --snr-threshold "$floor"
        ;;
    engine)
        run polygraphy run "$bundle/$graph.engine" --trt --optimization-profile "$profile" \
            "${golden[@]}" --snr-threshold "$device_floor_db"
        ;;
    layers)
        require_editable
        keep_layers
        run polygraphy run "$onnx" "$runner" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            --onnx-outputs "${values[@]}" --trt-outputs "${values[@]}" \
            --load-inputs inputs.json "${layers[@]}" --fail-fast
        ;;
    reduce) # a cut that TensorRT refuses to build is not the failure: differing outputs are
        require_editable
        keep_layers
        run polygraphy debug reduce "$onnx" --output reduced.onnx "${static[@]}" --load-inputs layers-inputs.json \
            --hide-fail-output --fail-regex 'Mismatched outputs' --check polygraphy run polygraphy_debug.onnx "$runner" \
            "${as_written[@]}" "${like_the_build[@]}" --load-inputs layers-inputs.json "${layers[@]}"
        ;;
    inspect)
        [ -f reduced.onnx ] || { echo "there is no reduced.onnx yet: bash polygraphy.sh reduce" >&2; exit 2; }
        run polygraphy inspect model reduced.onnx --show layers attrs
        ;;
    *) usage ;;
esac
