# Everything that the shipped weights are trained on, made from what cannot be shipped with them. In the project's root:
#
#   make -f scripts/training_data.mk -j2            whatever is there already is left alone; a killed one goes on
#   make -f scripts/training_data.mk -j2 detector   what configs/detector.yaml needs; `mesh`: what configs/mesh.yaml does
#
# It needs the environment of `make test` and, in data/ (or linked there):
#   photos/SET         seven sets of photographs, each with images and a pseudo_labels.json; the model card names them
#   backgrounds        images without hands
#   skins, hdri        skin textures, and panoramas to light with; data/body.png: a body's skin in MakeHuman's layout
#   teachers/hand_landmark_full.onnx, teachers/palm_detection_full.onnx
#                      MediaPipe's networks, of its wheel, by scripts/convert_teacher.py
# and, for the people, `pip install anny==0.6.2`. Two hours of one core. (Behind the shipped weights' sets two, hard and
# gestures there were, beside backgrounds, parts of the training photographs that show no hand.)

HANDMESH ?= .venv/bin/python -m handmesh
SEED ?= 1
DONE := data/done

PHOTOS := sign_digits gesture_people people_rooms fingerspelling phone_backs small_hands
SHOWN := $(PHOTOS) students_rooms
PASTED := people_rooms fingerspelling phone_backs
RENDERED := train two bowls hard gestures signs
JUDGED := two-hands signs hard
TEACHER := data/teachers/hand_landmark_full.onnx
export OMP_NUM_THREADS := 1

define noted
	@mkdir -p $(@D) && touch $@
endef

.PHONY: all mesh detector
.SECONDARY:
all: mesh detector
mesh: $(PHOTOS:%=$(DONE)/fits-%) $(PHOTOS:%=$(DONE)/cutouts-%) $(SHOWN:%=$(DONE)/taught-%) $(PASTED:%=$(DONE)/pasted-%) \
  $(RENDERED:%=$(DONE)/synthetic-%) $(DONE)/synthetic-val $(DONE)/synthetic-test $(JUDGED:%=$(DONE)/synthetic-val_%) \
  $(patsubst %,$(DONE)/seen-%,train two gestures signs) $(DONE)/seen-hard_negatives
detector: $(DONE)/people $(DONE)/hands $(patsubst %,$(DONE)/synthetic-%,two bowls hard gestures signs) \
  $(patsubst %,$(DONE)/cutouts-%,sign_digits $(PASTED)) data/teachers/palm_detection_full.onnx

# Photographs: the hand fitted to their labels, hands cut out of them, and what the teacher sees in views of both.
FIT_OPTIONS-sign_digits := --fov-deg 44
VIEWS-gesture_people := 5
VIEWS-sign_digits := 6
$(DONE)/fits-%: | data/photos/%
	$(HANDMESH) data fit-photos data/photos/$* --output data/fits/$*.npz $(FIT_OPTIONS-$*)
	$(noted)
$(DONE)/cutouts-%: | data/photos/%
	$(HANDMESH) data cutouts data/photos/$* --output data/cutouts/$*
	$(noted)
$(DONE)/taught-%: | data/photos/% $(TEACHER)
	$(HANDMESH) data cache-teacher $(TEACHER) data/photos/$* --output data/taught/$* --views $(or $(VIEWS-$*),8)
	$(noted)
$(DONE)/pasted-%: $(DONE)/cutouts-% | data/backgrounds $(TEACHER)
	$(HANDMESH) data cache-teacher $(TEACHER) data/cutouts/$* --output data/taught/cut_$* --views 2 --backgrounds data/backgrounds
	$(noted)

# Rendered hands: how many, how, and what the teacher sees in the first of them; a calibration is fitted on val and val_*.
COUNT-train := 14000
COUNT-two := 14000
COUNT-bowls := 5000
COUNT-hard := 6000
COUNT-gestures := 12000
COUNT-signs := 16000
COUNT-val := 300
COUNT-test := 500
HOW-train := --materials train --seed $(SEED)1
HOW-two := --materials train --seed $(SEED)2 --difficulty two-hands
SIZE-bowls := 208
HOW-bowls := --materials train --seed $(SEED)6 --difficulty bowls
HOW-hard := --materials train --seed $(SEED)3 --difficulty hard
HOW-gestures := --materials train --seed $(SEED)4 --difficulty gestures
HOW-signs := --materials train --seed $(SEED)5 --difficulty signs
HOW-val := --materials train --seed 900001
COUNT-val_two-hands := 150
COUNT-val_signs := 150
COUNT-val_hard := 150
HOW-val_two-hands := --materials train --seed 900011 --difficulty two-hands
HOW-val_signs := --materials train --seed 900012 --difficulty signs
HOW-val_hard := --materials train --seed 900013 --difficulty hard
HOW-test := --materials test --seed 900002
$(DONE)/synthetic-%: | data/backgrounds data/skins data/hdri
	$(HANDMESH) data synthetic --output data/synthetic/$* --count $(COUNT-$*) $(HOW-$*) --size $(or $(SIZE-$*),176) --painted-skins 32 \
	  --backgrounds data/backgrounds --skins data/skins --environments data/hdri
	$(noted)
$(DONE)/seen-%: $(DONE)/synthetic-% | $(TEACHER)
	$(HANDMESH) data cache-teacher $(TEACHER) data/synthetic/$* --output data/taught/$* --limit 5000
	$(noted)

# What the shipped detector takes for hands where none is.
$(DONE)/hard_negatives: $(PASTED:%=$(DONE)/cutouts-%) | data/backgrounds
	$(HANDMESH) data hard-negatives --output data/hard_negatives --backgrounds data/backgrounds --count 6000 \
	  --cutouts $(PASTED:%=data/cutouts/%) --people data/photos/gesture_people data/photos/people_rooms
	$(noted)
$(DONE)/seen-hard_negatives: $(DONE)/hard_negatives | $(TEACHER)
	$(HANDMESH) data cache-teacher $(TEACHER) data/hard_negatives --output data/taught/hard_negatives --limit 12000
	$(noted)

# The detector's people and hands.
$(DONE)/people: | data/body.png
	$(HANDMESH) data people --output data/people --skin data/body.png --count 4000 --bodies 200 --seed $(SEED)
	$(noted)
$(DONE)/hands: | data/skins data/hdri
	$(HANDMESH) data sprites --output data/hands --count 3000 --pairs 0.4 --skins data/skins --environments data/hdri --seed $(SEED)
	$(noted)

define missing
	@echo "there is no $@: the top of scripts/training_data.mk says what it is" && false
endef
data/photos/% data/teachers/%.onnx:
	$(missing)
data/backgrounds data/skins data/hdri data/body.png:
	$(missing)
