-- The demo's shop on the shadow: legacy.sql's tables, spread over two shards as
-- app.vschema.json says. Two differences: events.id is filled from the sequence
-- lookup.events_seq, and a unique key holds within a shard only.

create table if not exists customers (
  id         bigint       not null,
  email      varchar(190) not null,
  name       varchar(100) not null,
  created_at datetime     not null,
  primary key (id),
  unique key email (email)
);

create table if not exists products (
  id    bigint        not null,
  sku   varchar(40)   not null,
  title varchar(200)  not null,
  price decimal(10,2) not null,
  stock int           not null,
  primary key (id),
  unique key sku (sku)
);

create table if not exists orders (
  id          bigint        not null,
  customer_id bigint        not null,
  status      varchar(20)   not null,
  total       decimal(12,2) not null,
  placed_at   datetime      not null,
  primary key (id),
  key customer (customer_id, placed_at),
  key status (status)
);

create table if not exists order_lines (
  id         bigint        not null,
  order_id   bigint        not null,
  product_id bigint        not null,
  qty        int           not null,
  price      decimal(10,2) not null,
  primary key (id),
  key `order` (order_id),
  key product (product_id)
);

create table if not exists payments (
  id       bigint        not null,
  order_id bigint        not null,
  method   varchar(20)   not null,
  amount   decimal(12,2) not null,
  paid_at  datetime      not null,
  primary key (id),
  key `order` (order_id)
);

create table if not exists events (
  id      bigint      not null,
  kind    varchar(40) not null,
  payload text        not null,
  at      datetime    not null,
  primary key (id),
  key kind (kind)
);
