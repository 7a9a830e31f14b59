"""The canonical graph in ONNX Runtime's own operators: fused attention, skip+norm, bias+activation.

Every fusion is counted against what the canonical graph holds; one that was expected and did not happen is an error.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..errors import TargetError
from ..graph.edit import attribute, constant, consumers, initializer, insert, is_projection, nodes, producer, remove_unused, replace

CONTRIB = "com.microsoft"


@dataclass
class Fusions:
    """How many of each fused operator the lowering made."""

    attention: int = 0
    merged_qkv: int = 0
    skip_norm: int = 0
    bias_gelu: int = 0


def lower(model: ir.Model, attention='mha', merge=True, skip=True, gelu=True) -> Fusions:
    """Lowers `model` in place."""
    fusions = Fusions()
    graph = model.graph
    graph.opset_imports[CONTRIB] = 1
    if attention == 'attn':
        fusions.attention = _attn(graph)
    if attention == 'mha':
        if merge: fusions.merged_qkv = _merge_qkv(graph)
        fusions.attention = _mha(graph)
    if skip: fusions.skip_norm = _skip_norm(graph)
    if gelu: fusions.bias_gelu = _bias_gelu(graph)
    remove_unused(model)
    graph.sort()
    return fusions

def _proj(value):
    add = producer(value, 'Add')
    mm = next(producer(v,'MatMul') for v in add.inputs if producer(v,'MatMul'))
    bias = next(v for v in add.inputs if v.is_initializer())
    return mm.inputs[0], mm.inputs[1], bias, mm

def _mask32(graph, anchor):
    for v in graph.all_nodes():
        if v.name=='padding_mask_int32': return v.outputs[0]
    mask = next(i for i in graph.inputs if i.name=='attention_mask')
    return insert(anchor,'Cast',[mask],name='padding_mask_int32',dtype=ir.DataType.INT32,to=int(ir.DataType.INT32))

def _merged_weights(graph, node):
    ps=[_proj(node.inputs[i]) for i in range(3)]
    n=ps[0][1].name.replace('query','qkv')
    w=initializer(graph,n,np.concatenate([constant(p[1]) for p in ps],1))
    b=initializer(graph,n.replace('weight','bias'),np.concatenate([constant(p[2]) for p in ps]))
    return ps,w,b

def _attn(graph):
    c=0
    for node in nodes(graph,'Attention'):
        ps,w,b=_merged_weights(graph,node)
        out=insert(node,'Attention',[ps[0][0],w,b,_mask32(graph,node)],name=node.outputs[0].name+'.fused',domain=CONTRIB,dtype=ir.DataType.FLOAT,num_heads=attribute(node,'q_num_heads'),scale=attribute(node,'scale'))
        replace(node.outputs[0],out); c+=1
    return c

def _merge_qkv(graph):
    c=0
    for node in nodes(graph,'Attention'):
        ps,w,b=_merged_weights(graph,node)
        mm=insert(node,'MatMul',[ps[0][0],w],name=node.name+'.qkv_mm',dtype=ir.DataType.FLOAT)
        ad=insert(node,'Add',[mm,b],name=node.name+'.qkv',dtype=ir.DataType.FLOAT)
        q=insert(node,'Split',[ad],name=node.name+'.split',outputs=3,dtype=ir.DataType.FLOAT,axis=-1,num_outputs=3)
        for i,o in enumerate(q.producer().outputs): node.replace_input_with(i,o)
        c+=1
    return c

def _mha(graph, bias=True):
    c=0
    for node in nodes(graph,'Attention'):
        out=insert(node,'MultiHeadAttention',[*node.inputs[:3],None,_mask32(graph,node)],name=node.outputs[0].name+'.fused',domain=CONTRIB,dtype=ir.DataType.FLOAT,num_heads=attribute(node,'q_num_heads'),scale=attribute(node,'scale'))
        replace(node.outputs[0],out); c+=1
    return c

def _skip_norm(graph):
    c=0
    for node in nodes(graph,'LayerNormalization'):
        add=producer(node.inputs[0],'Add')
        if add is None or any(v.is_initializer() for v in add.inputs): continue
        if len(consumers(add.outputs[0]))>1: continue
        a,b=add.inputs
        bias=None
        for x,y in ((a,b),(b,a)):
            inner=producer(x,'Add')
            if inner is not None and len(consumers(x))==1 and any(v.is_initializer() and len(v.shape)==1 for v in inner.inputs):
                bias=next(v for v in inner.inputs if v.is_initializer()); a=next(v for v in inner.inputs if not v.is_initializer()); b=y; break
        if producer(b,'Gather') or producer(a,'Gather'): continue
        out=insert(node,'SkipLayerNormalization',[a,b,node.inputs[1],node.inputs[2],bias],name=node.outputs[0].name+'.skip',domain=CONTRIB,dtype=ir.DataType.FLOAT,epsilon=attribute(node,'epsilon'))
        replace(node.outputs[0],out); c+=1
    return c

def _bias_gelu(graph):
    c=0
    for node in nodes(graph,'Gelu'):
        add=producer(node.inputs[0],'Add')
        bias=next(v for v in add.inputs if v.is_initializer()); x=next(v for v in add.inputs if not v.is_initializer())
        out=insert(node,'BiasGelu',[x,bias],name=node.outputs[0].name+'.fused',domain=CONTRIB,dtype=ir.DataType.FLOAT)
        replace(node.outputs[0],out); c+=1
    return c
