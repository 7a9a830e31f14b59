"""Name the keys of a config that no class reads any more, or that only describe a model: they may have any value."""

HARMLESS = frozenset(
    """
    _commit_hash _name_or_path _num_labels adapters attn_implementation auto_map bad_words_ids base_model_name
    classifier_dropout classifier_dropout_prob cross_attention_hidden_size custom_pipelines directionality down_scale_factor
    dtype finetuning_task gap_size gradient_checkpointing hidden_dropout id2label is_decoder label2id language
    layer_norm_eps layers_to_keep legacy license max_seq_length model_name model_type n_gpu name name_or_path
    net_structure_type num_labels num_memory_blocks output_attentions output_hidden_states output_past pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size pooler_size_per_head pooler_type prefix problem_type
    reference_compile repad_logits_with_grad return_dict sbert_ce_default_activation_function sentence_transformers
    summary_activation summary_first_dropout summary_last_dropout summary_proj_to_labels summary_type summary_use_proj
    task_specific_params tie_encoder_decoder tie_weights tie_weights_ tie_word_embeddings tokenizer_class
    tokenizer_name torch_dtype torchscript transformers_version trainer unpad_inputs use_bfloat16 use_cache
    use_memory_efficient_attention wandb xla_device
    """.split()
)
"""Keys of config.json: notes of trainers, options of training, and what earlier versions of transformers wrote."""

TOKENIZER = frozenset(
    """
    __version__ _commit_hash add_bos_token add_eos_token add_prefix_space added_tokens_decoder additional_special_tokens
    auto_map backend bos_token byte_fallback chat_template clean_up_tokenization_spaces cls_token do_basic_tokenize
    do_lower_case dropout eos_token errors extra_ids extra_special_tokens fix_mistral_regex from_slow full_tokenizer_file
    init_inputs is_local keep_accents legacy local_files_only lowercase mask_token max_len max_length merges
    model_input_names model_max_length model_specific_special_tokens name_or_path never_split normalizer pad_to_multiple_of
    pad_token pad_token_id pad_token_type_id padding padding_side post_processor processor_class remove_space return_tensors
    revision sep_token sp_model_kwargs space_token special_tokens special_tokens_map_file split_by_punct
    split_special_tokens stride strip_accents tokenize_chinese_chars tokenizer_class tokenizer_file trim_offsets
    truncation truncation_side truncation_strategy trust_remote_code unk_token use_default_system_prompt use_fast
    vocab_file vocab_size vocab_type verbose wordpieces_prefix
    """.split()
)
"""Keys of tokenizer_config.json that transformers reads, or wrote in an earlier version."""

MODEL = frozenset(
    """
    __version__ activation_fn default_prompt_name keep_in_fp32_modules model_type prompts requirements similarity_fn_name
    truncate_dim
    """.split()
)
"""Keys of config_sentence_transformers.json."""
