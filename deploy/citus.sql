-- Distributes Wayleave's tables over the nodes of a Citus cluster, by the bucket of their hosts. Run it once on the
-- coordinator, after `wayleave db upgrade` and `citus_add_node` for each node, while no server runs:
--   psql --single-transaction -v ON_ERROR_STOP=1 -f citus.sql wayleave
-- Servers then need WAYLEAVE_COMMIT_BY_BUCKET=true. See docs/scale.md for what was run, and what was not.

-- References are taken off and put back: Citus distributes no table that another, undistributed one refers to.
ALTER TABLE rule_use DROP CONSTRAINT fk_rule_use_host_id_bucket_host;
ALTER TABLE host_tag DROP CONSTRAINT fk_host_tag_host_id_bucket_host;
ALTER TABLE pulse DROP CONSTRAINT fk_pulse_subject_id_bucket_subject;
ALTER TABLE subject DROP CONSTRAINT fk_subject_host_id_bucket_host;

SELECT create_reference_table('host_group');
SELECT create_reference_table('fact_set');

SELECT create_distributed_table('host', 'bucket');
SELECT create_distributed_table(name, 'bucket', colocate_with => 'host')
FROM unnest(ARRAY['subject', 'pulse', 'host_tag', 'rule_use', 'rule_use_delta', 'transition', 'sighting',
  'tally_delta']) AS name;

ALTER TABLE subject ADD CONSTRAINT fk_subject_host_id_bucket_host
  FOREIGN KEY (host_id, bucket) REFERENCES host (id, bucket) ON DELETE CASCADE;
ALTER TABLE pulse ADD CONSTRAINT fk_pulse_subject_id_bucket_subject
  FOREIGN KEY (subject_id, bucket) REFERENCES subject (id, bucket) ON DELETE CASCADE;
ALTER TABLE host_tag ADD CONSTRAINT fk_host_tag_host_id_bucket_host
  FOREIGN KEY (host_id, bucket) REFERENCES host (id, bucket) ON DELETE CASCADE;
ALTER TABLE rule_use ADD CONSTRAINT fk_rule_use_host_id_bucket_host
  FOREIGN KEY (host_id, bucket) REFERENCES host (id, bucket) ON DELETE CASCADE;
