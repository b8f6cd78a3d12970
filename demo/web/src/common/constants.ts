// Written by demo/web/write_constants.py: change the numbers in Python, and write them anew.

// handmesh.skeleton
export const KEYPOINTS = [
  'wrist', 'thumb1', 'thumb2', 'thumb3', 'thumb4', 'index1', 'index2', 'index3', 'index4', 'middle1', 'middle2',
  'middle3', 'middle4', 'ring1', 'ring2', 'ring3', 'ring4', 'little1', 'little2', 'little3', 'little4',
] as const;
export const MANO_JOINTS = [
  'wrist', 'index1', 'index2', 'index3', 'middle1', 'middle2', 'middle3', 'little1', 'little2', 'little3', 'ring1',
  'ring2', 'ring3', 'thumb1', 'thumb2', 'thumb3',
] as const;
export const KEYPOINT_OF_MANO = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3] as const;
export const PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14] as const;
export const BONES = [
  [0, 1], [1, 2], [2, 3], [3, 4], [0, 5], [5, 6], [6, 7], [7, 8], [0, 9], [9, 10], [10, 11], [11, 12], [0, 13],
  [13, 14], [14, 15], [15, 16], [0, 17], [17, 18], [18, 19], [19, 20],
] as const;
export const WRIST = 0;
export const ROOT = 9;
export const BACK_OF_HAND = [0, 1, 0] as const;
export const THUMBNAIL = [0, 0.26, 0.97] as const;

// handmesh.types
export const KNUCKLES = [5, 9, 13] as const;

// handmesh.geometry
export const LEAST_RAY_SPREAD = 1e-12;
export const LEAST_VARIANCE = 1e-18;
export const SUREST = 1e-06;
export const RELIABILITY = [
  0.6, 0.6, 0.7, 0.5, 0.4, 1, 0.7, 0.5, 0.4, 1, 0.7, 0.5, 0.4, 1, 0.7, 0.5, 0.4, 1, 0.7, 0.5, 0.4,
] as const;
export const NEAREST_M = 0.05;
export const FARTHEST_M = 20;
export const DISTANCE_BAND = [0.8, 1.25] as const;

// handmesh.detection
export const STRIDE = 8;
export const THRESHOLD = 0.5;
export const SAME_HAND = 0.4;
export const LARGEST_LOG_SIZE = 6;

// handmesh.crop
export const PADDING = 114;

// handmesh.gestures
export const PINCH_BEGINS = 0.09;
export const PINCH_ENDS = 0.12;
export const PINCH_MOST_DEG = 170;
export const CONTACT_EVEN = -0.2;
export const CONTACT_LENGTH = 0.2;
export const CONTACT_HELD = 1;
export const THUMB_LAST = [3, 4] as const;
export const FINGER_CHAINS = [[0, 5, 6, 7, 8], [0, 9, 10, 11, 12], [0, 13, 14, 15, 16], [0, 17, 18, 19, 20]] as const;

// handmesh.tracking.estimator
export const BARE_CONFIDENCE = { bias: 0, presence: 1 } as const;
export const SMALLEST_M = 0.01;
export const LARGEST_OUTPUTS = {
  joints_m: 1,
  joints_crop: 8,
  rotations: 1.01,
  shape: 100,
  presence: 1000000,
  right: 1000000,
  spread: 10,
  contact: 1000000,
} as const;
export const LEAST_AHEAD = 0.1;
export const SURE_HANDEDNESS = 0.95;
export const SURE_SIDE = 0.8;
export const DETECTOR_SIDE_WEIGHT = 0.75;
export const EXPECTED_ERROR_WEIGHT = 5;
export const DOUBTED_LEAD = 4;
export const TURNED_RAD = 0.2;
export const OPPOSITE_SIDES = 6;
export const COMPANION = 0.8;
export const COMPANION_SIZES = 2;
export const HOPELESS = 0.02;
export const STAGES = ['detect', 'crop', 'network', 'lift', 'smooth', 'total'] as const;

// handmesh.tracking.alignment
export const ALIGN = true;
export const FINGER_RAD = 0.06981317007977318;
export const WRIST_RAD = 0.04363323129985824;
export const LEAST_UNCERTAINTY = 0.03;
export const TOUCHING_M = 0.006;
export const TOUCH_M = 0.003;
export const LEAST_CONTACT = 0.1;
export const MOST_DEVIATIONS = 4;
export const POSITION_M = 10;

// handmesh.tracking.association
export const TRACKER_CONFIG = {
  newTrackThreshold: 0.6,
  keepThreshold: 0.25,
  sureScore: 0.9,
  detectionInterval: 3,
  maxCoastFrames: 2,
  reidentifyS: 1,
  handednessSwitchFrames: 5,
} as const;
export const LONGEST_GAP_S = 0.5;
export const SHORTEST_GAP_S = 0.001;
export const LONGEST_STEP_M = 0.5;
export const SAME_POSITION_OVERLAP = 0.4;
export const MOST_COVERED = 0.5;

// handmesh.tracking.smoothing
export const PRESETS = {
  off: null,
  low: {
    bearing: { minCutoffHz: 0.2, beta: 100, jump: Infinity },
    distance: { minCutoffHz: 0.7, beta: 11, jump: Infinity },
    rotation: { minCutoffHz: 2, beta: 2.8, jump: 1 },
  },
  high: {
    bearing: { minCutoffHz: 1, beta: 25, jump: Infinity },
    distance: { minCutoffHz: 0.4, beta: 6, jump: Infinity },
    rotation: { minCutoffHz: 1, beta: 1.5, jump: 1 },
  },
} as const;
export const SHAPE_AVERAGE_S = 3;
export const D_CUTOFF_HZ = 3;

// handmesh.tracking.backends
export const FORMAT = 1;
export const METADATA_KEY = 'handmesh';

// handmesh.assets
export const MODELS = ['fast', 'balanced'] as const;
export const DEFAULT_MODEL = 'balanced';

// handmesh.render.overlay
export const SIDE_COLOURS = { right: [0.58, 0.8, 1], left: [1, 0.87, 0.42] } as const;
export const OPACITY = 0.9;
export const TRANSLUCENT = 0.4;

// handmesh.render.rasterizer
export const KEY_LIGHT = [-0.4466625002869186, -0.7444375004781977, -0.4962916669854651] as const;
export const LIGHT_WITHIN = 0.43;

// handmesh.streaming.protocol
export const STREAM_VERSION = 1;
export const STREAM_MAGIC = [72, 77, 70, 1] as const;
export const HEADER_BYTES = 64;
export const HAND_BYTES = 20;
export const JOINT_FLOATS = 8;
export const SIDES = ['left', 'right'] as const;

// handmesh.xr.joints
export const WEBXR_JOINTS = [
  'wrist', 'thumb-metacarpal', 'thumb-phalanx-proximal', 'thumb-phalanx-distal', 'thumb-tip', 'index-finger-metacarpal',
  'index-finger-phalanx-proximal', 'index-finger-phalanx-intermediate', 'index-finger-phalanx-distal',
  'index-finger-tip', 'middle-finger-metacarpal', 'middle-finger-phalanx-proximal',
  'middle-finger-phalanx-intermediate', 'middle-finger-phalanx-distal', 'middle-finger-tip', 'ring-finger-metacarpal',
  'ring-finger-phalanx-proximal', 'ring-finger-phalanx-intermediate', 'ring-finger-phalanx-distal', 'ring-finger-tip',
  'pinky-finger-metacarpal', 'pinky-finger-phalanx-proximal', 'pinky-finger-phalanx-intermediate',
  'pinky-finger-phalanx-distal', 'pinky-finger-tip',
] as const;
export const METACARPALS = {
  index: [0.37, 0.15, 0.09],
  middle: [0.375, 0.01, 0.08],
  ring: [0.43, -0.135, 0.025],
  little: [0.475, -0.12, 0.025],
} as const;
export const LITTLE_TWIST_DEG = 23;

// handmesh.xr.poses
export const SMALLEST_RADIUS_M = 0.004;
export const LARGEST_RADIUS_M = 0.03;
export const NEAREST_FRACTION = 0.015625;
export const TIP_INSIDE = 0.3333333333333333;
export const DEFAULT_RADII_M = [
  0.016, 0.02, 0.016, 0.014, 0.013, 0.012, 0.016, 0.011, 0.0105, 0.01, 0.01, 0.016, 0.011, 0.0105, 0.01, 0.01, 0.016,
  0.011, 0.0105, 0.01, 0.01, 0.016, 0.011, 0.0105, 0.01, 0.01,
] as const;
