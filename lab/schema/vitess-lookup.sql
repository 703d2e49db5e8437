-- The sequence of events.id. It begins at 1, as the legacy's auto_increment does.

create table if not exists events_seq (
  id      bigint not null,
  next_id bigint not null,
  cache   bigint not null,
  primary key (id)
) comment 'vitess_sequence';

insert ignore into events_seq (id, next_id, cache) values (0, 1, 100);
